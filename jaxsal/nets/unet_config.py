"""The architecture of MONAI's 3D ``UNet``, as its constructor's arguments describe it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, ClassVar

from jaxsal.errors import InputError
from jaxsal.nets.architecture import Architecture, Argument, Count, as_counts
from jaxsal.nets.settings import (
    Setting,
    as_activation,
    as_count,
    as_dropout,
    as_flag,
    as_norm,
    as_odd_triple,
    as_sequence,
    as_triples,
    check_widths,
    product,
    setting_as_json,
)
from jaxsal.types import Triple


def _per_axis(values: Triple) -> int | list[int]:
    """One number where it holds for all axes."""
    return values[0] if len(set(values)) == 1 else list(values)


def _each_per_axis(values: tuple[Triple, ...]) -> list[int | list[int]]:
    return [_per_axis(each) for each in values]


def _as_ordering(name: str, value: Any) -> str:
    ordering = str(value).upper()
    if set(ordering) - set("ADN") or len(set(ordering)) != len(ordering):
        raise InputError(f"{name} is made of the letters A, D and N, got {ordering!r}")
    return ordering


@dataclass(frozen=True)
class UNetConfig(Architecture):
    """Architecture of a `UNet`; the fields have the meaning of MONAI's constructor arguments.

    Make one with `UNetConfig.from_arguments`, which fills in MONAI's defaults and checks.
    """

    kind: ClassVar[str] = "unet"
    source: ClassVar[str] = "monai.networks.nets.UNet"
    further: ClassVar[Mapping[str, Any]] = {"spatial_dims": 3}
    repeated: ClassVar[tuple[str, ...]] = ("num_res_units",)

    in_channels: Count
    out_channels: Count
    channels: Annotated[tuple[int, ...], Argument(as_counts)]
    strides: Annotated[tuple[Triple, ...], Argument(as_triples, write=_each_per_axis)]
    kernel_size: Annotated[Triple, Argument(as_odd_triple, 3, _per_axis)]
    up_kernel_size: Annotated[Triple, Argument(as_odd_triple, 3, _per_axis)]
    num_res_units: Annotated[int, Argument(partial(as_count, least=0, most=20), 0)]
    act: Annotated[Setting | None, Argument(as_activation, "prelu", setting_as_json)]
    norm: Annotated[Setting | None, Argument(as_norm, "instance", setting_as_json)]
    dropout: Annotated[float, Argument(as_dropout, 0.0)]
    bias: Annotated[bool, Argument(as_flag, True)]
    adn_ordering: Annotated[str, Argument(_as_ordering, "NDA")]

    @classmethod
    def from_arguments(cls, arguments: Mapping[str, Any]) -> UNetConfig:
        """As `Architecture.from_arguments`; ``dimensions`` is what MONAI once called the first."""
        if isinstance(arguments, Mapping):
            named = {"dimensions": "spatial_dims"}
            arguments = {named.get(name, name): value for name, value in arguments.items()}
        return super().from_arguments(arguments)

    @classmethod
    def stated(cls, arguments: dict[str, Any]) -> dict[str, Any]:
        channels = as_sequence("channels", arguments["channels"])
        strides = as_sequence("strides", arguments["strides"])
        if len(channels) < 2 or len(strides) < len(channels) - 1:
            raise InputError(
                "channels needs at least two entries and strides one fewer than channels; "
                f"got channels {list(channels)} and strides {list(strides)}"
            )
        return {**arguments, "strides": strides[: len(channels) - 1]}

    def check(self, arguments: Mapping[str, Any]) -> None:
        top = (self.out_channels,) if self.num_res_units else ()  # else it is a bare convolution
        check_widths(self.norm, self.act, (*self.channels, *top))

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
