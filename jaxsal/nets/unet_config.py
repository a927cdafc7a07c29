"""The architecture of MONAI's 3D ``UNet``, as its constructor's arguments describe it."""

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
    as_odd_triple,
    as_sequence,
    as_triple,
    check_known,
    check_widths,
    product,
    setting_as_json,
)
from jaxsal.types import Triple


@dataclass(frozen=True)
class UNetConfig:
    """Architecture of a `UNet`; the fields have the meaning of MONAI's constructor arguments.

    Make one with `UNetConfig.from_arguments`, which fills in MONAI's defaults and checks.
    """

    kind: ClassVar[str] = "unet"

    in_channels: int
    out_channels: int
    channels: tuple[int, ...]
    strides: tuple[Triple, ...]
    kernel_size: Triple
    up_kernel_size: Triple
    num_res_units: int
    act: Setting | None
    norm: Setting | None
    dropout: float
    bias: bool
    adn_ordering: str

    @classmethod
    def from_arguments(cls, arguments: Mapping[str, Any]) -> UNetConfig:
        """From the keyword arguments of ``monai.networks.nets.UNet``, as JSON gives them.

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
            "channels": list(self.channels),
            "strides": [_per_axis(s) for s in self.strides],
            "kernel_size": _per_axis(self.kernel_size),
            "up_kernel_size": _per_axis(self.up_kernel_size),
            "num_res_units": self.num_res_units,
            "act": setting_as_json(self.act),
            "norm": setting_as_json(self.norm),
            "dropout": self.dropout,
            "bias": self.bias,
            "adn_ordering": self.adn_ordering,
        }

    @property
    def levels(self) -> int:
        """Number of encoder levels above the bottleneck."""
        return len(self.channels) - 1

    @property
    def divisor(self) -> Triple:
        """What each spatial size of an input must be a multiple of."""
        return product(self.strides)

    @property
    def fixed_size(self) -> tuple[int | None, int | None, int | None]:
        """The only size an input can have along each spatial axis that a layer norm covers."""
        if self.norm is None or self.norm[0] != "layer":
            return None, None, None
        x, y, z = (None, None, None, *dict(self.norm[1])["normalized_shape"])[-3:]
        return x, y, z


_REQUIRED = ("in_channels", "out_channels", "channels", "strides")
_DEFAULTS: dict[str, Any] = {
    "spatial_dims": 3,
    "kernel_size": 3,
    "up_kernel_size": 3,
    "num_res_units": 0,
    "act": "prelu",
    "norm": "instance",
    "dropout": 0.0,
    "bias": True,
    "adn_ordering": "NDA",
}


def _per_axis(values: Triple) -> int | list[int]:
    """One number where it holds for all axes."""
    return values[0] if len(set(values)) == 1 else list(values)


def _checked_config(arguments: Mapping[str, Any]) -> UNetConfig:
    if not isinstance(arguments, Mapping):
        raise InputError(f"a UNet's configuration is a mapping of arguments, got {arguments!r}")
    given = {"spatial_dims" if k == "dimensions" else k: v for k, v in arguments.items()}
    check_known("monai.networks.nets.UNet", given, _REQUIRED, _DEFAULTS)
    full = {**_DEFAULTS, **given}
    if full["spatial_dims"] != 3:
        raise InputError(f"spatial_dims must be 3, got {full['spatial_dims']!r}")
    channels = tuple(as_count("channels", c) for c in as_sequence("channels", full["channels"]))
    strides = as_sequence("strides", full["strides"])
    if len(channels) < 2 or len(strides) < len(channels) - 1:
        raise InputError(
            "channels needs at least two entries and strides one fewer than channels; "
            f"got channels {list(channels)} and strides {list(strides)}"
        )
    ordering = str(full["adn_ordering"]).upper()
    if set(ordering) - set("ADN") or len(set(ordering)) != len(ordering):
        raise InputError(f"adn_ordering is made of the letters A, D and N, got {ordering!r}")
    config = UNetConfig(
        in_channels=as_count("in_channels", full["in_channels"]),
        out_channels=as_count("out_channels", full["out_channels"]),
        channels=channels,
        strides=tuple(as_triple("strides", s) for s in strides[: len(channels) - 1]),
        kernel_size=as_odd_triple("kernel_size", full["kernel_size"]),
        up_kernel_size=as_odd_triple("up_kernel_size", full["up_kernel_size"]),
        num_res_units=as_count("num_res_units", full["num_res_units"], least=0),
        act=as_activation("act", full["act"]),
        norm=as_norm("norm", full["norm"]),
        dropout=as_dropout("dropout", full["dropout"]),
        bias=as_flag("bias", full["bias"]),
        adn_ordering=ordering,
    )
    top = (config.out_channels,) if config.num_res_units else ()  # else it is a bare convolution
    check_widths(config.norm, config.act, (*config.channels, *top))
    return config
