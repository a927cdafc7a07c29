"""The architectures of MONAI's 3D ``SegResNet`` and ``SegResNetDS``, by constructor arguments."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from jaxsal.errors import InputError
from jaxsal.nets.architecture import (
    Architecture,
    Argument,
    as_convolution_norm,
    as_counts,
    setting_or_empty,
)
from jaxsal.nets.settings import (
    Setting,
    as_activation,
    as_count,
    as_dropout,
    as_flag,
    as_sequence,
    check_widths,
    product,
)
from jaxsal.types import Triple

UPSAMPLING = ("nontrainable", "deconv", "pixelshuffle")
_BLOCKS = (1, 2, 2, 4)


def _as_upsampling(name: str, value: Any) -> str:
    if value not in UPSAMPLING:
        raise InputError(f"{name} must be one of {', '.join(UPSAMPLING)}; got {value!r}")
    return str(value)


def _as_affine_norm(name: str, value: Any) -> Setting:
    """A norm with learnt parameters, unless it says otherwise."""
    if as_convolution_norm(name, value) is None:
        raise InputError(f"{name} must be batch, instance or group, got none")
    kind, arguments = (value, {}) if isinstance(value, str) else (*value, {})[:2]
    norm: Setting = as_convolution_norm(name, [kind, {"affine": True, **arguments}])
    return norm


def _as_resolution(name: str, value: Any) -> tuple[float, ...] | None:
    if value is None:
        return None
    sizes = as_sequence(name, value)
    are_numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in sizes)
    if len(sizes) != 3 or not are_numbers or not all(0 < v < math.inf for v in sizes):
        raise InputError(f"{name} must be three voxel sizes above 0, or null; got {value!r}")
    return tuple(map(float, sizes))


def scales_of(resolution: tuple[float, ...] | None, levels: int) -> tuple[Triple, ...]:
    """By how much ``SegResNetDS`` divides the size below each level, per axis.

    An axis of small voxels is halved until no other has voxels of twice the size; then all are.

    Args:
        resolution: voxel size per axis; None if it is the same along all.
        levels: number of levels, the last of which divides nothing.
    """
    largest = max(resolution or (1.0,))
    halvings = [math.floor(math.log2(largest / r)) for r in resolution or (1.0,) * 3]
    isotropic = max(halvings)  # from this level on
    scales = []
    for level in range(levels):
        x, y, z = (2 if level >= isotropic or level < own else 1 for own in halvings)
        scales.append((x, y, z))
    return tuple(scales)


@dataclass(frozen=True)
class ResidualLevels(Architecture):
    """What the two architectures share: residual blocks on levels, each twice as wide.

    Attributes:
        shares_activation: whether a block has one activation function, or two.
    """

    shares_activation: ClassVar[bool]
    repeated: ClassVar[tuple[str, ...]] = ("blocks_down", "blocks_up")

    in_channels: Annotated[int, Argument(as_count, 1)]
    out_channels: Annotated[int, Argument(as_count, 2)]
    blocks_down: Annotated[tuple[int, ...], Argument(as_counts, _BLOCKS)]

    # of the subclasses, whose defaults differ
    init_filters: int
    act: Setting | None
    norm: Setting | None
    blocks_up: tuple[int, ...]
    upsample_mode: str

    def check(self, arguments: Mapping[str, Any]) -> None:
        if not self.blocks_down:
            raise InputError("blocks_down needs one entry per level, got none")
        if len(self.blocks_up) != self.levels:
            raise InputError(
                "blocks_up needs one entry less than blocks_down; got "
                f"{list(self.blocks_up)} with {list(self.blocks_down)}"
            )
        check_widths(self.norm, self.act, self.widths)

    @property
    def levels(self) -> int:
        """Number of encoder levels above the bottleneck."""
        return len(self.blocks_down) - 1

    @property
    def widths(self) -> tuple[int, ...]:
        """Number of channels of each level, the bottleneck's last."""
        return tuple(self.init_filters * 2**level for level in range(self.levels + 1))

    @property
    def scales(self) -> tuple[Triple, ...]:
        """By how much the size is divided below each level; kernels are of 3 where it is."""
        return scales_of(None, self.levels + 1)

    @property
    def kernels(self) -> tuple[Triple, ...]:
        """Size of the kernels of each level."""
        kernels = []
        for scale in self.scales:
            x, y, z = (3 if s > 1 else 1 for s in scale)
            kernels.append((x, y, z))
        return tuple(kernels)

    @property
    def divisor(self) -> Triple:
        """What each spatial size of an input must be a multiple of."""
        return product(self.scales[:-1])


@dataclass(frozen=True)
class SegResNetConfig(ResidualLevels):
    """Architecture of a `SegResNet`; the fields have the meaning of MONAI's constructor arguments.

    Make one with `SegResNetConfig.from_arguments`, which fills in MONAI's defaults and checks.
    Without ``use_conv_final`` the logits are the ``init_filters`` channels of the top level, and
    ``out_channels`` is that number, whatever it is in the arguments.
    """

    kind: ClassVar[str] = "segresnet"
    source: ClassVar[str] = "monai.networks.nets.SegResNet"
    further: ClassVar[Mapping[str, Any]] = {"spatial_dims": 3, "norm_name": "", "num_groups": 8}
    shares_activation: ClassVar[bool] = True

    init_filters: Annotated[int, Argument(as_count, 8)]
    dropout_prob: Annotated[float, Argument(as_dropout, None)]
    act: Annotated[Setting | None, Argument(as_activation, "relu", setting_or_empty)]
    norm: Annotated[
        Setting | None,
        Argument(as_convolution_norm, ("group", {"num_groups": 8}), setting_or_empty),
    ]
    use_conv_final: Annotated[bool, Argument(as_flag, True)]
    blocks_up: Annotated[tuple[int, ...], Argument(as_counts, (1, 1, 1))]
    upsample_mode: Annotated[str, Argument(_as_upsampling, "nontrainable")]

    @classmethod
    def stated(cls, arguments: dict[str, Any]) -> dict[str, Any]:
        stated = dict(arguments)
        if stated["norm_name"]:  # what `norm` was called once
            if str(stated["norm_name"]).lower() != "group":
                raise InputError(f"norm_name can only be group, got {stated['norm_name']!r}")
            stated["norm"] = ("group", {"num_groups": stated["num_groups"]})
        if not as_flag("use_conv_final", stated["use_conv_final"]):
            stated["out_channels"] = stated["init_filters"]
        return stated


@dataclass(frozen=True)
class SegResNetDSConfig(ResidualLevels):
    """Architecture of a `SegResNetDS`; the fields are MONAI's constructor arguments.

    Make one with `SegResNetDSConfig.from_arguments`, which fills in MONAI's defaults and checks.
    Deep supervision is not part of it: its heads do nothing at inference.
    """

    kind: ClassVar[str] = "segresnet-ds"
    source: ClassVar[str] = "monai.networks.nets.SegResNetDS"
    further: ClassVar[Mapping[str, Any]] = {"spatial_dims": 3, "dsdepth": 1, "preprocess": None}
    shares_activation: ClassVar[bool] = False

    init_filters: Annotated[int, Argument(as_count, 32)]
    act: Annotated[Setting | None, Argument(as_activation, "relu", setting_or_empty)]
    norm: Annotated[Setting, Argument(_as_affine_norm, "batch", setting_or_empty)]
    blocks_up: Annotated[tuple[int, ...], Argument(as_counts, None)]
    upsample_mode: Annotated[str, Argument(_as_upsampling, "deconv")]
    resolution: Annotated[tuple[float, ...] | None, Argument(_as_resolution, None)]

    @classmethod
    def stated(cls, arguments: dict[str, Any]) -> dict[str, Any]:
        if arguments["blocks_up"] is not None:
            return arguments
        return {**arguments, "blocks_up": (1,) * (len(as_counts("", arguments["blocks_down"])) - 1)}

    def check(self, arguments: Mapping[str, Any]) -> None:
        super().check(arguments)
        as_count("dsdepth", arguments["dsdepth"])
        if arguments["preprocess"] is not None:
            raise InputError(
                "preprocess: a function before the network is not supported; leave it out and "
                "give images that it has worked on"
            )
        if self.act is None:
            raise InputError("act: SegResNetDS needs an activation function, got none")
        if self.upsample_mode == "pixelshuffle" and len(set(sum(self.scales[:-1], ()))) > 1:
            raise InputError(
                "upsample_mode pixelshuffle up-samples all axes alike, and with the resolution "
                f"{self.resolution} they are not: MONAI's own network fails"
            )

    @property
    def scales(self) -> tuple[Triple, ...]:
        """By how much the size is divided below each level; kernels are of 3 where it is."""
        return scales_of(self.resolution, self.levels + 1)
