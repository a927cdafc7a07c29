"""The architectures of nnU-Net v2: ``PlainConvUNet`` and ``ResidualEncoderUNet``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from jaxsal.errors import InputError
from jaxsal.nets.settings import (
    Setting,
    as_activation,
    as_count,
    as_flag,
    as_norm,
    as_sequence,
    as_triple,
    as_triples,
    check_known,
    check_odd,
    check_widths,
    product,
    setting_as_json,
)
from jaxsal.types import Triple

PLAIN, RESIDUAL = "PlainConvUNet", "ResidualEncoderUNet"
ENCODERS = (PLAIN, RESIDUAL)


@dataclass(frozen=True)
class NNUNetConfig:
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

    network: str
    in_channels: int
    out_channels: int
    features_per_stage: tuple[int, ...]
    kernel_sizes: tuple[Triple, ...]
    strides: tuple[Triple, ...]
    encoder_units: tuple[int, ...]
    decoder_units: tuple[int, ...]
    conv_bias: bool
    norm: Setting | None
    act: Setting | None
    activation_first: bool
    bottleneck_channels: tuple[int, ...] | None
    stem_channels: int

    @classmethod
    def from_arguments(cls, arguments: Mapping[str, Any]) -> NNUNetConfig:
        """From the values of the fields, as JSON gives them; numbers stand for every stage.

        Raises:
            InputError: an argument is missing, unknown or outside what is supported.
        """
        return _checked_config(arguments)

    def to_arguments(self) -> dict[str, Any]:
        """The inverse of `from_arguments`, ready for JSON."""
        inner = self.bottleneck_channels
        return {
            "network": self.network,
            "in_channels": self.in_channels,
            "out_channels": self.out_channels,
            "features_per_stage": list(self.features_per_stage),
            "kernel_sizes": [list(k) for k in self.kernel_sizes],
            "strides": [list(s) for s in self.strides],
            "encoder_units": list(self.encoder_units),
            "decoder_units": list(self.decoder_units),
            "conv_bias": self.conv_bias,
            "norm": setting_as_json(self.norm),
            "act": setting_as_json(self.act),
            "activation_first": self.activation_first,
            "bottleneck_channels": None if inner is None else list(inner),
            "stem_channels": self.stem_channels,
        }

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

    @property
    def fixed_size(self) -> tuple[int | None, int | None, int | None]:
        """Every size is free."""
        return None, None, None


_REQUIRED = (
    *("network", "in_channels", "out_channels", "features_per_stage", "kernel_sizes", "strides"),
    *("encoder_units", "decoder_units"),
)
_DEFAULTS: dict[str, Any] = {
    "conv_bias": False,
    "norm": None,
    "act": None,
    "activation_first": False,
    "bottleneck_channels": None,
    "stem_channels": None,
}


def _checked_config(arguments: Mapping[str, Any]) -> NNUNetConfig:
    if not isinstance(arguments, Mapping):
        raise InputError(f"an nnU-Net's configuration is a mapping, got {arguments!r}")
    check_known("nnU-Net's networks", arguments, _REQUIRED, _DEFAULTS)
    full = {**_DEFAULTS, **arguments}
    if full["network"] not in ENCODERS:
        raise InputError(f"network must be one of {', '.join(ENCODERS)}; got {full['network']!r}")
    features = _counts("features_per_stage", full["features_per_stage"], None)
    stages = len(features)
    if stages < 2:
        raise InputError(f"features_per_stage needs at least two entries, got {list(features)}")
    inner, stem = full["bottleneck_channels"], full["stem_channels"]
    config = NNUNetConfig(
        network=full["network"],
        in_channels=as_count("in_channels", full["in_channels"]),
        out_channels=as_count("out_channels", full["out_channels"]),
        features_per_stage=features,
        kernel_sizes=_triples("kernel_sizes", full["kernel_sizes"], stages),
        strides=_triples("strides", full["strides"], stages),
        encoder_units=_counts("encoder_units", full["encoder_units"], stages),
        decoder_units=_counts("decoder_units", full["decoder_units"], stages - 1),
        conv_bias=as_flag("conv_bias", full["conv_bias"]),
        norm=as_norm("norm", full["norm"]),
        act=as_activation("act", full["act"]),
        activation_first=as_flag("activation_first", full["activation_first"]),
        bottleneck_channels=inner and _counts("bottleneck_channels", inner, stages),
        stem_channels=features[0] if stem is None else as_count("stem_channels", stem),
    )
    _check_combination(config)
    return config


def _counts(name: str, value: Any, length: int | None) -> tuple[int, ...]:
    if length is not None and isinstance(value, int):
        value = [value] * length
    counts = tuple(as_count(name, entry) for entry in as_sequence(name, value))
    _check_length(name, counts, length)
    return counts


def _triples(name: str, value: Any, length: int) -> tuple[Triple, ...]:
    if isinstance(value, int):
        return (as_triple(name, value),) * length
    triples = as_triples(name, value)
    _check_length(name, triples, length)
    return triples


def _check_length(name: str, values: tuple[Any, ...], length: int | None) -> None:
    if length is not None and len(values) != length:
        raise InputError(f"{name} needs {length} entries here, got {len(values)}")


def _check_combination(config: NNUNetConfig) -> None:
    check_odd("kernel_sizes", config.kernel_sizes)
    if config.strides[0] != (1, 1, 1):
        raise InputError(
            "strides must begin with 1, else the logits are on a coarser grid than the image; got "
            f"{list(config.strides[0])}"
        )
    if config.norm is not None and config.norm[0] == "layer":
        raise InputError("norm must be batch, instance or group, got layer")
    if config.is_residual and config.activation_first:
        raise InputError(f"activation_first is for {PLAIN} only")
    if not config.is_residual and config.bottleneck_channels:
        raise InputError(f"bottleneck_channels is for {RESIDUAL} only")
    extra = (*(config.bottleneck_channels or ()), *([config.stem_channels] * config.is_residual))
    check_widths(config.norm, config.act, (*config.features_per_stage, *extra))
