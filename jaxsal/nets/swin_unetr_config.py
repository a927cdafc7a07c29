"""The architecture of MONAI's 3D ``SwinUNETR``, as its constructor's arguments describe it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar

from jaxsal.errors import InputError
from jaxsal.nets.architecture import (
    Architecture,
    Argument,
    Count,
    as_convolution_norm,
    as_counts,
    setting_or_empty,
)
from jaxsal.nets.settings import (
    Setting,
    as_count,
    as_dropout,
    as_flag,
    as_triple,
    check_widths,
)
from jaxsal.types import Triple

STAGES = 4  # of the transformer, each halving the size
_DIVISOR = 32  # patches of two voxels, then four times halved

# In which order a merging layer lays the eight voxels of a 2 x 2 x 2 block side by side, each given
# by its (x, y, z) in the block. MONAI's "merging" took two of them twice and left two out until
# version 1.4; the same name means all eight since 1.5. Checkpoints do not show which it was.
OLD_MERGING = "merging-1.4"
OCTANTS = {
    "merging": ("000", "100", "010", "001", "110", "101", "011", "111"),
    OLD_MERGING: ("000", "100", "010", "001", "101", "010", "001", "111"),
    "mergingv2": ("000", "001", "010", "011", "100", "101", "110", "111"),
}


def _per_stage(name: str, value: Any) -> tuple[int, ...]:
    counts = as_counts(name, value)
    if len(counts) != STAGES:
        raise InputError(f"{name} has one entry per stage, {STAGES}; got {list(counts)}")
    return counts


def _as_ratio(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e3:
        raise InputError(f"{name} must be a number of zero or more, got {value!r}")
    return float(value)


def _as_downsample(name: str, value: Any) -> str:
    if not isinstance(value, str) or value not in OCTANTS:
        raise InputError(f"{name} must be one of {', '.join(OCTANTS)}; got {value!r}")
    return value


_NORM = Argument(as_convolution_norm, "instance", setting_or_empty)


@dataclass(frozen=True)
class SwinUNETRConfig(Architecture):
    """Architecture of a `SwinUNETR`; the fields have the meaning of MONAI's constructor arguments.

    Make one with `SwinUNETRConfig.from_arguments`, which fills in MONAI's defaults and checks.
    Arguments that do nothing at inference, such as dropout rates, are not part of it. ``img_size``
    is an argument of MONAI 1.4 and older: with it, "merging" is what that was.

    Attributes:
        downsample: a key of `OCTANTS`.
    """

    kind: ClassVar[str] = "swin-unetr"
    source: ClassVar[str] = "monai.networks.nets.SwinUNETR"
    repeated: ClassVar[tuple[str, ...]] = ("depths",)
    further: ClassVar[Mapping[str, Any]] = {
        "spatial_dims": 3,
        "patch_size": 2,
        "use_hyena": False,
        "hyena_stages": None,
        **dict.fromkeys(("drop_rate", "attn_drop_rate", "dropout_path_rate"), 0.0),
        # the size that it was trained on, and ways of computing the same numbers
        **dict.fromkeys(("img_size", "use_checkpoint", "use_flash_attention")),
    }

    in_channels: Count
    out_channels: Count
    feature_size: Annotated[int, Argument(as_count, 24)]
    depths: Annotated[tuple[int, ...], Argument(_per_stage, (2, 2, 2, 2))]
    num_heads: Annotated[tuple[int, ...], Argument(_per_stage, (3, 6, 12, 24))]
    window_size: Annotated[Triple, Argument(as_triple, 7)]
    mlp_ratio: Annotated[float, Argument(_as_ratio, 4.0)]
    qkv_bias: Annotated[bool, Argument(as_flag, True)]
    norm_name: Annotated[Setting | None, _NORM]
    normalize: Annotated[bool, Argument(as_flag, True)]
    patch_norm: Annotated[bool, Argument(as_flag, False)]
    downsample: Annotated[str, Argument(_as_downsample, "merging")]
    use_v2: Annotated[bool, Argument(as_flag, False)]

    @classmethod
    def from_arguments(cls, arguments: Mapping[str, Any]) -> SwinUNETRConfig:
        config = super().from_arguments(arguments)
        is_old = "img_size" in arguments and config.downsample == "merging"
        return replace(config, downsample=OLD_MERGING) if is_old else config

    def check(self, arguments: Mapping[str, Any]) -> None:
        if as_triple("patch_size", arguments["patch_size"]) != (2, 2, 2):
            raise InputError(
                "patch_size must be 2: with any other, the sizes of the decoder's levels do not "
                f"match and MONAI's own network fails; got {arguments['patch_size']!r}"
            )
        if arguments["use_hyena"] or any(arguments["hyena_stages"] or ()):
            raise InputError("use_hyena: Hyena operators are not supported, only window attention")
        for name in ("drop_rate", "attn_drop_rate", "dropout_path_rate"):
            as_dropout(name, arguments[name])
        if self.feature_size % 12:
            raise InputError(f"feature_size must be a multiple of 12, got {self.feature_size}")
        for stage, heads in enumerate(self.num_heads):
            if self.width(stage) % heads:
                raise InputError(
                    f"num_heads must divide the channels of every stage; got {heads} for the "
                    f"{self.width(stage)} of stage {stage}"
                )
        check_widths(self.norm_name, None, [self.feature_size])

    @property
    def divisor(self) -> Triple:
        """What each spatial size of an input must be a multiple of."""
        return _DIVISOR, _DIVISOR, _DIVISOR

    def width(self, stage: int) -> int:
        """Number of channels within a stage of the transformer; the last one's output has twice."""
        return self.feature_size * 2**stage

    def hidden(self, stage: int) -> int:
        """Number of channels inside the perceptrons of a stage."""
        return int(self.width(stage) * self.mlp_ratio) or self.width(stage)
