"""How scans are prepared."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from jaxsal.errors import InputError, require_voxel_size
from jaxsal.options import option

TransformKind = Literal["rigid", "affine"]


@dataclass(frozen=True)
class PreparationSettings:
    """How scans are prepared.

    Attributes:
        channels: names of the images of a scan, such as the columns of a cohort's table.
        fixed: the image that the others are registered to, whose grid the results have.
        transform: "rigid", for the images of one session; "affine" also scales and shears.
        register: whether channels are registered; else all must lie on one grid.
        correct_bias: whether bias fields are removed.
        mask_on: the image that references, instances or masks were drawn on; they are resampled
            with it. None: the fixed one.
        voxel_size: voxel size of the results in mm, along the array axes of the fixed image, on
            whose grid they else are; images are resampled by cubic splines, masks by the nearest
            voxel. None: the fixed image's.
        allow_upsampling: take scans, too, that would grow to more than 8 times as many voxels.
        skull_strip: what finds the brain, outside of which all images become 0. A command line such
            as "mri_synthstrip -i {image} -m {mask}", which is given the fixed image; or a mask, a
            folder of masks by the scans' names, or "mask" for those that the cohort names. None:
            nothing does.

    Raises:
        InputError: one of them is not such, or there would be nothing to do.
    """

    channels: tuple[str, ...] = option(("flair", "t1"), "CHANNEL")
    fixed: str = option("t1", "CHANNEL")
    transform: TransformKind = option("rigid")
    register: bool = True
    correct_bias: bool = True
    mask_on: str | None = option(None, "CHANNEL")
    voxel_size: tuple[float, float, float] | None = option(None, "MM")
    allow_upsampling: bool = option(False)
    skull_strip: str | None = option(None, "COMMAND_OR_MASK")

    def __post_init__(self) -> None:
        names = [channel.casefold() for channel in self.channels]
        if not names or len(set(names)) < len(names):
            raise InputError(f"channels need different names, got {', '.join(names) or 'none'}")
        for what, name in (("fixed", self.fixed), ("mask-on", self.masks_on)):
            if name not in self.channels:
                raise InputError(
                    f"{what} must be one of the channels {', '.join(self.channels)}; got {name!r}"
                )
        if self.transform not in get_args(TransformKind):
            raise InputError(f"the transform must be rigid or affine, got {self.transform!r}")
        if self.voxel_size is not None:
            require_voxel_size(self.voxel_size)
        elif self.allow_upsampling:
            raise InputError("allow-upsampling goes with a voxel-size, and none is given")
        others = self.voxel_size, self.skull_strip
        if not (self.correct_bias or (self.register and self.moving)) and others == (None, None):
            raise InputError(
                "there is nothing to do: neither registration nor bias correction, no other voxel "
                "size and no skull to strip"
            )

    @property
    def identity(self) -> dict[str, Any]:
        """All that results depend on, ready for JSON."""
        return {name: value for name, value in asdict(self).items() if name != "allow_upsampling"}

    @property
    def moving(self) -> tuple[str, ...]:
        """The channels that are registered to the fixed one."""
        return tuple(channel for channel in self.channels if channel != self.fixed)

    @property
    def masks_on(self) -> str:
        """The channel that the masks were drawn on."""
        return self.fixed if self.mask_on is None else self.mask_on
