"""nnU-Net v2's networks (Isensee et al. 2021, 2024): plain and residual encoder U-Nets.

As the public package ``dynamic_network_architectures`` defines them, which nnU-Net uses. The
residual blocks are those of ResNet-D (He et al. 2019): the shortcut pools before it projects.

Layer names, for i from the top (0) down: ``stem`` (residual encoders only), ``encoder.i``,
``decoder.i.upsample``, ``decoder.i.joined``, ``decoder.i``, and ``head``, the logits. Plain stages
hold ``units.j.conv``, ``units.j.norm``, ``units.j.activation``; residual ones ``blocks.b.units.j``
with the same, ``blocks.b.pooled``, ``blocks.b.shortcut``, ``blocks.b.sum``. A block's own name is
its output. The lowest ``encoder.i`` is the bottleneck.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
from flax import nnx

from jaxsal.nets.blocks import Convolution, Tap, decode, encode, make_activation
from jaxsal.nets.nnunet_config import NNUNetConfig
from jaxsal.nets.units import ConvolutionUnit, DecoderLevel, average_pool
from jaxsal.types import Triple

_SAME: Triple = (1, 1, 1)


def _unit(config: NNUNetConfig, inputs: int, outputs: int, **changes: Any) -> ConvolutionUnit:
    settings = {
        "use_bias": config.conv_bias,
        "norm": config.norm,
        "act": config.act,
        "activation_first": config.activation_first,
    }
    return ConvolutionUnit(inputs, outputs, **{**settings, **changes})


class PlainStage(nnx.Module):
    """Convolutions in a row, the first of them strided."""

    def __init__(
        self,
        config: NNUNetConfig,
        inputs: int,
        outputs: int,
        count: int,
        *,
        kernel_size: Triple,
        stride: Triple = _SAME,
        rngs: nnx.Rngs,
    ) -> None:
        self.units = nnx.List(
            _unit(
                config,
                outputs if j else inputs,
                outputs,
                kernel_size=kernel_size,
                stride=_SAME if j else stride,
                rngs=rngs,
            )
            for j in range(count)
        )

    def __call__(self, x: jax.Array, tap: Tap) -> jax.Array:
        for j, unit in enumerate(self.units):
            x = unit(x, tap.under(f"units.{j}"))
        return tap("", x)


class ResNetBlock(nnx.Module):
    """Two convolutions, or three with ``inner`` channels between them, and a shortcut around."""

    def __init__(
        self,
        config: NNUNetConfig,
        inputs: int,
        outputs: int,
        inner: int | None,
        *,
        kernel_size: Triple,
        stride: Triple,
        rngs: nnx.Rngs,
    ) -> None:
        unit = partial(_unit, config, rngs=rngs)
        strided = partial(unit, kernel_size=kernel_size, stride=stride)
        if inner is None:
            last = unit(outputs, outputs, kernel_size=kernel_size, act=None)
            self.units = nnx.List([strided(inputs, outputs), last])
        else:
            first = unit(inputs, inner, kernel_size=_SAME)
            last = unit(inner, outputs, kernel_size=_SAME, act=None)
            self.units = nnx.List([first, strided(inner, inner), last])
        self.stride = stride
        projection = unit(inputs, outputs, kernel_size=_SAME, use_bias=False, act=None)
        self.shortcut = projection if inputs != outputs else None
        self.activation = make_activation(*config.act) if config.act else None

    def __call__(self, x: jax.Array, tap: Tap) -> jax.Array:
        y = x
        for j, unit in enumerate(self.units):
            y = unit(y, tap.under(f"units.{j}"))
        if self.stride != _SAME:
            x = tap("pooled", average_pool(x, self.stride))
        if self.shortcut is not None:
            x = self.shortcut(x, tap.under("shortcut"))
        y = tap("sum", y + x)
        return tap("", y if self.activation is None else self.activation(y))


class ResidualStage(nnx.Module):
    """Residual blocks in a row, the first of them strided."""

    def __init__(self, config: NNUNetConfig, inputs: int, stage: int, rngs: nnx.Rngs) -> None:
        outputs, inner = config.features_per_stage[stage], config.bottleneck_channels
        self.blocks = nnx.List(
            ResNetBlock(
                config,
                outputs if b else inputs,
                outputs,
                None if inner is None else inner[stage],
                kernel_size=config.kernel_sizes[stage],
                stride=_SAME if b else config.strides[stage],
                rngs=rngs,
            )
            for b in range(config.encoder_units[stage])
        )

    def __call__(self, x: jax.Array, tap: Tap) -> jax.Array:
        for b, block in enumerate(self.blocks):
            x = block(x, tap.under(f"blocks.{b}"))
        return tap("", x)


def _decoder_stage(config: NNUNetConfig, stage: int, rngs: nnx.Rngs) -> DecoderLevel:
    outputs, inputs = config.features_per_stage[stage : stage + 2]
    refine = PlainStage(
        config,
        2 * outputs,
        outputs,
        config.decoder_units[-1 - stage],  # listed from below
        kernel_size=config.kernel_sizes[stage],
        rngs=rngs,
    )
    stride, bias = config.strides[stage + 1], config.conv_bias
    return DecoderLevel(inputs, refine, outputs, stride=stride, use_bias=bias, rngs=rngs)


class NNUNet(nnx.Module):
    """The network; see `jaxsal.nets.registry.NetworkClass`."""

    Config = NNUNetConfig

    def __init__(self, config: NNUNetConfig, rngs: nnx.Rngs) -> None:
        entry = config.stem_channels if config.is_residual else config.in_channels
        widths = (entry, *config.features_per_stage)
        stem = partial(_unit, config, kernel_size=config.kernel_sizes[0], rngs=rngs)
        self.stem = stem(config.in_channels, entry) if config.is_residual else None

        def stage(i: int) -> PlainStage | ResidualStage:
            if config.is_residual:
                return ResidualStage(config, widths[i], i, rngs)
            return PlainStage(
                config,
                widths[i],
                widths[i + 1],
                config.encoder_units[i],
                kernel_size=config.kernel_sizes[i],
                stride=config.strides[i],
                rngs=rngs,
            )

        self.encoder = nnx.List(stage(i) for i in range(config.stages))
        self.decoder = nnx.List(_decoder_stage(config, i, rngs) for i in range(config.stages - 1))
        self.head = Convolution(
            config.features_per_stage[0],
            config.out_channels,
            kernel_size=_SAME,
            use_bias=True,
            rngs=rngs,
        )

    def __call__(
        self, batch: jax.Array, perturbations: Mapping[str, jax.Array] | None = None
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Logits and all activations by name."""
        tap = Tap(perturbations)
        x = batch if self.stem is None else self.stem(batch, tap.under("stem"))
        *skips, x = encode(self.encoder, x, tap)
        x = decode(self.decoder, skips, x, tap)
        return self.head(x, tap.under("head")), tap.activations
