"""The architectures of nnU-Net v2: ``PlainConvUNet`` and ``ResidualEncoderUNet``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from jaxsal.errors import InputError, require_one_of
from jaxsal.nets.architecture import (
    ACTIVATION,
    Architecture,
    Argument,
    Count,
    as_convolution_norm,
    as_counts,
    check_first_stride,
)
from jaxsal.nets.settings import (
    Setting,
    as_count,
    as_flag,
    as_triples,
    check_odd,
    check_widths,
    product,
    setting_as_json,
)
from jaxsal.types import Triple

PLAIN, RESIDUAL = "PlainConvUNet", "ResidualEncoderUNet"
ENCODERS = (PLAIN, RESIDUAL)


def _as_network(name: str, value: Any) -> str:
    require_one_of(name, value, ENCODERS)
    return str(value)


def _as_inner(name: str, value: Any) -> tuple[int, ...] | None:
    return as_counts(name, value) if value else None


_COUNTS, _SIZES = Argument(as_counts), Argument(as_triples)


@dataclass(frozen=True)
class NNUNetConfig(Architecture):
    """Architecture of an `NNUNet`.

    The fields have the meaning of the arguments of ``dynamic_network_architectures``; sizes are
    (X, Y, Z), the reverse of nnU-Net's. Make one with `NNUNetConfig.from_arguments`.

    Attributes:
        network: class name of the source, one of `ENCODERS`.
        in_channels: number of image channels.
        out_channels: number of logits per voxel.
        features_per_stage: channels of each stage, from the top down.
        kernel_sizes: of each stage.
        strides: of each stage's first convolution; the first stage's is 1.
        encoder_units: convolutions, or residual blocks, of each stage of the encoder.
        decoder_units: convolutions of each stage of the decoder, **the lowest first**.
        conv_bias: whether convolutions have one.
        norm: normalisation layer.
        act: activation function.
        activation_first: whether it comes before the normalisation (``nonlin_first``).
        bottleneck_channels: inner channels of bottleneck blocks in each stage; None for basic ones.
        stem_channels: channels of the residual encoder's first convolution.
    """

    kind: ClassVar[str] = "nnunet"
    source: ClassVar[str] = "nnU-Net's networks"
    repeated: ClassVar[tuple[str, ...]] = ("encoder_units", "decoder_units")

    network: Annotated[str, Argument(_as_network)]
    in_channels: Count
    out_channels: Count
    features_per_stage: Annotated[tuple[int, ...], _COUNTS]
    kernel_sizes: Annotated[tuple[Triple, ...], _SIZES]
    strides: Annotated[tuple[Triple, ...], _SIZES]
    encoder_units: Annotated[tuple[int, ...], _COUNTS]
    decoder_units: Annotated[tuple[int, ...], _COUNTS]
    conv_bias: Annotated[bool, Argument(as_flag, False)]
    norm: Annotated[Setting | None, Argument(as_convolution_norm, None, setting_as_json)]
    act: Annotated[Setting | None, ACTIVATION]
    activation_first: Annotated[bool, Argument(as_flag, False)]
    bottleneck_channels: Annotated[tuple[int, ...] | None, Argument(_as_inner, None)]
    stem_channels: Annotated[int, Argument(as_count, None)]

    @classmethod
    def stated(cls, arguments: dict[str, Any]) -> dict[str, Any]:
        """A number in place of a list stands for every stage."""
        features = as_counts("features_per_stage", arguments["features_per_stage"])
        stages = len(features)
        if stages < 2:
            raise InputError(f"features_per_stage needs at least two entries, got {list(features)}")
        lengths = dict.fromkeys(("kernel_sizes", "strides", "encoder_units"), stages)
        lengths |= {"decoder_units": stages - 1}
        if arguments["bottleneck_channels"]:
            lengths["bottleneck_channels"] = stages
        full = {name: _listed(name, arguments[name], length) for name, length in lengths.items()}
        if arguments["stem_channels"] is None:
            full["stem_channels"] = features[0]
        return {**arguments, **full}

    def check(self, arguments: Any) -> None:
        check_odd("kernel_sizes", self.kernel_sizes)
        check_first_stride(self.strides)
        if self.is_residual and self.activation_first:
            raise InputError(f"activation_first is for {PLAIN} only")
        if not self.is_residual and self.bottleneck_channels:
            raise InputError(f"bottleneck_channels is for {RESIDUAL} only")
        extra = (*(self.bottleneck_channels or ()), *([self.stem_channels] * self.is_residual))
        check_widths(self.norm, self.act, (*self.features_per_stage, *extra))

    @property
    def stages(self) -> int:
        """Number of stages of the encoder, the lowest included."""
        return len(self.features_per_stage)

    @property
    def is_residual(self) -> bool:
        """Whether the encoder is made of residual blocks."""
        return self.network == RESIDUAL

    @property
    def divisor(self) -> Triple:
        """What each spatial size of an input must be a multiple of."""
        return product(self.strides)


def _listed(name: str, value: Any, length: int) -> Any:
    if isinstance(value, int):
        return [value] * length
    if isinstance(value, list | tuple) and len(value) != length:
        raise InputError(f"{name} needs {length} entries here, got {len(value)}")
    return value
