"""How scans are prepared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from jaxsal.errors import InputError
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
        mask_on: the image that references or instances were drawn on; they are resampled with it.
            None: the fixed one.

    Raises:
        InputError: one of them is not such, or there would be nothing to do.
    """

    channels: tuple[str, ...] = option(("flair", "t1"), "CHANNEL")
    fixed: str = option("t1", "CHANNEL")
    transform: TransformKind = option("rigid")
    register: bool = True
    correct_bias: bool = True
    mask_on: str | None = option(None, "CHANNEL")

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
        if not self.correct_bias and not (self.register and self.moving):
            raise InputError("there is nothing to do: neither registration nor bias correction")

    @property
    def moving(self) -> tuple[str, ...]:
        """The channels that are registered to the fixed one."""
        return tuple(channel for channel in self.channels if channel != self.fixed)

    @property
    def masks_on(self) -> str:
        """The channel that the masks were drawn on."""
        return self.fixed if self.mask_on is None else self.mask_on
