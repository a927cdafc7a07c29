"""The architecture of MONAI's 3D ``SwinUNETR``, as its constructor's arguments describe it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from jaxsal.errors import InputError
from jaxsal.nets.settings import (
    Setting,
    as_count,
    as_dropout,
    as_flag,
    as_norm,
    as_sequence,
    as_triple,
    check_known,
    check_widths,
    setting_as_json,
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


@dataclass(frozen=True)
class SwinUNETRConfig:
    """Architecture of a `SwinUNETR`; the fields have the meaning of MONAI's constructor arguments.

    Make one with `SwinUNETRConfig.from_arguments`, which fills in MONAI's defaults and checks.
    Arguments that do nothing at inference, such as dropout rates, are not part of it.

    Attributes:
        downsample: a key of `OCTANTS`.
    """

    kind: ClassVar[str] = "swin-unetr"

    in_channels: int
    out_channels: int
    feature_size: int
    depths: tuple[int, ...]
    num_heads: tuple[int, ...]
    window_size: Triple
    mlp_ratio: float
    qkv_bias: bool
    norm_name: Setting | None
    normalize: bool
    patch_norm: bool
    downsample: str
    use_v2: bool

    @classmethod
    def from_arguments(cls, arguments: Mapping[str, Any]) -> SwinUNETRConfig:
        """From the keyword arguments of ``monai.networks.nets.SwinUNETR``, as JSON gives them.

        ``img_size`` is an argument of MONAI 1.4 and older: with it, "merging" is what that was.

        Raises:
            InputError: an argument is missing, unknown or outside what is supported.
        """
        return _checked_config(arguments)

    def to_arguments(self) -> dict[str, Any]:
        """The inverse of `from_arguments`, ready for JSON."""
        return {
            "spatial_dims": 3,
            "in_channels": self.in_channels,
            "out_channels": self.out_channels,
            "feature_size": self.feature_size,
            "depths": list(self.depths),
            "num_heads": list(self.num_heads),
            "window_size": list(self.window_size),
            "mlp_ratio": self.mlp_ratio,
            "qkv_bias": self.qkv_bias,
            "norm_name": setting_as_json(self.norm_name) or "",
            "normalize": self.normalize,
            "patch_norm": self.patch_norm,
            "downsample": self.downsample,
            "use_v2": self.use_v2,
        }

    @property
    def divisor(self) -> Triple:
        """What each spatial size of an input must be a multiple of."""
        return _DIVISOR, _DIVISOR, _DIVISOR

    @property
    def fixed_size(self) -> tuple[int | None, int | None, int | None]:
        """Every size is free."""
        return None, None, None

    def width(self, stage: int) -> int:
        """Number of channels within a stage of the transformer; the last one's output has twice."""
        return self.feature_size * 2**stage

    def hidden(self, stage: int) -> int:
        """Number of channels inside the perceptrons of a stage."""
        return int(self.width(stage) * self.mlp_ratio) or self.width(stage)


_REQUIRED = ("in_channels", "out_channels")
_DEFAULTS: dict[str, Any] = {
    "spatial_dims": 3,
    "patch_size": 2,
    "feature_size": 24,
    "depths": (2, 2, 2, 2),
    "num_heads": (3, 6, 12, 24),
    "window_size": 7,
    "mlp_ratio": 4.0,
    "qkv_bias": True,
    "norm_name": "instance",
    "normalize": True,
    "patch_norm": False,
    "downsample": "merging",
    "use_v2": False,
    "use_hyena": False,
    "hyena_stages": None,
    "drop_rate": 0.0,
    "attn_drop_rate": 0.0,
    "dropout_path_rate": 0.0,
}
# the size that it was trained on, and ways of computing the same numbers
_WITHOUT_EFFECT = ("img_size", "use_checkpoint", "use_flash_attention")


def _checked_config(arguments: Mapping[str, Any]) -> SwinUNETRConfig:
    if not isinstance(arguments, Mapping):
        raise InputError(
            f"a SwinUNETR's configuration is a mapping of arguments, got {arguments!r}"
        )
    optional = (*_DEFAULTS, *_WITHOUT_EFFECT)
    check_known("monai.networks.nets.SwinUNETR", arguments, _REQUIRED, optional)
    full = {**_DEFAULTS, **arguments}
    _check_unsupported(full)
    config = SwinUNETRConfig(
        in_channels=as_count("in_channels", full["in_channels"]),
        out_channels=as_count("out_channels", full["out_channels"]),
        feature_size=as_count("feature_size", full["feature_size"]),
        depths=_per_stage("depths", full["depths"]),
        num_heads=_per_stage("num_heads", full["num_heads"]),
        window_size=as_triple("window_size", full["window_size"]),
        mlp_ratio=_as_ratio(full["mlp_ratio"]),
        qkv_bias=as_flag("qkv_bias", full["qkv_bias"]),
        norm_name=_as_norm(full["norm_name"]),
        normalize=as_flag("normalize", full["normalize"]),
        patch_norm=as_flag("patch_norm", full["patch_norm"]),
        downsample=_as_downsample(full["downsample"], is_old="img_size" in full),
        use_v2=as_flag("use_v2", full["use_v2"]),
    )
    _check_widths(config)
    return config


def _check_unsupported(full: Mapping[str, Any]) -> None:
    if full["spatial_dims"] != 3:
        raise InputError(f"spatial_dims must be 3, got {full['spatial_dims']!r}")
    if as_triple("patch_size", full["patch_size"]) != (2, 2, 2):
        raise InputError(
            "patch_size must be 2: with any other, the sizes of the decoder's levels do not match "
            f"and MONAI's own network fails; got {full['patch_size']!r}"
        )
    if full["use_hyena"] or any(full["hyena_stages"] or ()):
        raise InputError("use_hyena: Hyena operators are not supported, only window attention")
    for name in ("drop_rate", "attn_drop_rate", "dropout_path_rate"):
        as_dropout(name, full[name])


def _per_stage(name: str, value: Any) -> tuple[int, ...]:
    counts = tuple(as_count(name, entry) for entry in as_sequence(name, value))
    if len(counts) != STAGES:
        raise InputError(f"{name} has one entry per stage, {STAGES}; got {list(counts)}")
    return counts


def _as_ratio(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e3:
        raise InputError(f"mlp_ratio must be a number of zero or more, got {value!r}")
    return float(value)


def _as_norm(value: Any) -> Setting | None:
    norm = as_norm("norm_name", value)
    if norm is not None and norm[0] == "layer":
        raise InputError("norm_name must be batch, instance or group, got layer")
    return norm


def _as_downsample(value: Any, *, is_old: bool) -> str:
    if not isinstance(value, str) or value not in OCTANTS:
        raise InputError(f"downsample must be one of {', '.join(OCTANTS)}; got {value!r}")
    return OLD_MERGING if is_old and value == "merging" else value


def _check_widths(config: SwinUNETRConfig) -> None:
    if config.feature_size % 12:
        raise InputError(f"feature_size must be a multiple of 12, got {config.feature_size}")
    for stage, heads in enumerate(config.num_heads):
        if config.width(stage) % heads:
            raise InputError(
                f"num_heads must divide the channels of every stage; got {heads} for the "
                f"{config.width(stage)} of stage {stage}"
            )
    check_widths(config.norm_name, None, [config.feature_size])
