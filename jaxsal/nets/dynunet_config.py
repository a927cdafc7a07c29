"""The architecture of MONAI's 3D ``DynUNet``, as its constructor's arguments describe it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from jaxsal.errors import InputError
from jaxsal.nets.settings import (
    Setting,
    as_activation,
    as_count,
    as_dropout,
    as_flag,
    as_norm,
    as_sequence,
    as_triples,
    check_known,
    check_odd,
    check_widths,
    product,
    setting_as_json,
)
from jaxsal.types import Triple

_UNSTRIDED = (1, 1, 1)


@dataclass(frozen=True)
class DynUNetConfig:
    """Architecture of a `DynUNet`; the fields have the meaning of MONAI's constructor arguments.

    Make one with `DynUNetConfig.from_arguments`, which fills in MONAI's defaults and checks.
    Deep supervision is not part of it: its heads do nothing at inference.
    """

    kind: ClassVar[str] = "dynunet"

    in_channels: int
    out_channels: int
    kernel_size: tuple[Triple, ...]
    strides: tuple[Triple, ...]
    filters: tuple[int, ...]
    dropout: float
    norm_name: Setting | None
    act_name: Setting | None
    res_block: bool
    trans_bias: bool

    @classmethod
    def from_arguments(cls, arguments: Mapping[str, Any]) -> DynUNetConfig:
        """From the keyword arguments of ``monai.networks.nets.DynUNet``, as JSON gives them.

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
            "kernel_size": [list(k) for k in self.kernel_size],
            "strides": [list(s) for s in self.strides],
            "upsample_kernel_size": [list(s) for s in self.strides[1:]],
            "filters": list(self.filters),
            "dropout": self.dropout,
            "norm_name": setting_as_json(self.norm_name) or "",
            "act_name": setting_as_json(self.act_name) or "",
            "res_block": self.res_block,
            "trans_bias": self.trans_bias,
        }

    @property
    def levels(self) -> int:
        """Number of encoder levels above the bottleneck."""
        return len(self.filters) - 1

    @property
    def divisor(self) -> Triple:
        """What each spatial size of an input must be a multiple of."""
        return product(self.strides)

    @property
    def fixed_size(self) -> tuple[int | None, int | None, int | None]:
        """Every size is free."""
        return None, None, None


_REQUIRED = ("in_channels", "out_channels", "kernel_size", "strides", "upsample_kernel_size")
_DEFAULTS: dict[str, Any] = {
    "spatial_dims": 3,
    "filters": None,
    "dropout": None,
    "norm_name": ("instance", {"affine": True}),
    "act_name": ("leakyrelu", {"negative_slope": 0.01}),
    "deep_supervision": False,
    "deep_supr_num": 1,
    "res_block": False,
    "trans_bias": False,
}


def _checked_config(arguments: Mapping[str, Any]) -> DynUNetConfig:
    if not isinstance(arguments, Mapping):
        raise InputError(f"a DynUNet's configuration is a mapping of arguments, got {arguments!r}")
    check_known("monai.networks.nets.DynUNet", arguments, _REQUIRED, _DEFAULTS)
    full = {**_DEFAULTS, **arguments}
    if full["spatial_dims"] != 3:
        raise InputError(f"spatial_dims must be 3, got {full['spatial_dims']!r}")
    as_flag("deep_supervision", full["deep_supervision"])
    as_count("deep_supr_num", full["deep_supr_num"])
    strides = as_triples("strides", full["strides"])
    config = DynUNetConfig(
        in_channels=as_count("in_channels", full["in_channels"]),
        out_channels=as_count("out_channels", full["out_channels"]),
        kernel_size=as_triples("kernel_size", full["kernel_size"]),
        strides=strides,
        filters=_filters(full["filters"], len(strides)),
        dropout=as_dropout("dropout", full["dropout"]),
        norm_name=_norm(full["norm_name"]),
        act_name=as_activation("act_name", full["act_name"]),
        res_block=as_flag("res_block", full["res_block"]),
        trans_bias=as_flag("trans_bias", full["trans_bias"]),
    )
    _check_sizes(config, as_triples("upsample_kernel_size", full["upsample_kernel_size"]))
    check_widths(config.norm_name, config.act_name, config.filters)
    return config


def _filters(value: Any, levels: int) -> tuple[int, ...]:
    if value is None:  # MONAI's default, after nnU-Net
        return tuple(min(2 ** (5 + level), 320) for level in range(levels))
    filters = tuple(as_count("filters", f) for f in as_sequence("filters", value))
    if len(filters) < levels:
        raise InputError(f"filters needs as many entries as strides, {levels}; got {list(filters)}")
    return filters[:levels]


def _norm(value: Any) -> Setting | None:
    norm = as_norm("norm_name", value)
    if norm is not None and norm[0] == "layer":
        raise InputError("norm_name must be batch, instance or group, got layer")
    return norm


def _check_sizes(config: DynUNetConfig, upsample_kernel_size: tuple[Triple, ...]) -> None:
    kernels, strides = config.kernel_size, config.strides
    if len(kernels) != len(strides) or len(strides) < 3:
        raise InputError(
            "kernel_size and strides need one entry per level, at least three; got "
            f"{len(kernels)} and {len(strides)}"
        )
    check_odd("kernel_size", kernels)
    if strides[0] != _UNSTRIDED:
        raise InputError(
            "strides must begin with 1, else the logits are on a coarser grid than the image; got "
            f"{list(strides[0])}"
        )
    if upsample_kernel_size != strides[1:]:
        raise InputError(
            "upsample_kernel_size must equal strides without its first entry, else the sizes of "
            f"the levels do not match; got {[list(k) for k in upsample_kernel_size]} with strides "
            f"{[list(s) for s in strides]}"
        )
    for kernel, stride in zip(kernels, strides, strict=True):
        kernels_there = [kernel, _UNSTRIDED] if config.res_block else [kernel]
        if any(s > k + 1 for size in kernels_there for s, k in zip(stride, size, strict=True)):
            raise InputError(
                "a stride can be at most one more than the kernel (with res_block: at most 2); got "
                f"stride {list(stride)} with kernel {list(kernel)}"
            )
