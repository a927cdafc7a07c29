"""MONAI's 3D ``UNet`` (after Kerfoot et al. 2018): the family of the paper's first network.

Level i of the encoder halves the size (or divides it by ``strides[i]``); the decoder's level i
joins the encoder's output with what comes from below, along the channels, and up-samples.

Layer names, for i from the top (0) down: ``encoder.i``, ``bottleneck``, ``decoder.i.joined``,
``decoder.i.upsample``, ``decoder.i.refine``; inside a block ``.conv``, ``.norm``, ``.activation``,
and in residual blocks ``.units.j.conv`` … and ``.shortcut``. A block's own name is its output.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx

from jaxsal.nets.blocks import Convolution, Tap, decode, encode, make_activation, make_norm
from jaxsal.nets.unet_config import UNetConfig
from jaxsal.types import Triple


class ConvolutionBlock(nnx.Module):
    """A convolution followed by normalisation and activation in the order asked for."""

    def __init__(
        self,
        config: UNetConfig,
        inputs: int,
        outputs: int,
        *,
        stride: Triple = (1, 1, 1),
        transposed: bool = False,
        conv_only: bool = False,
        rngs: nnx.Rngs,
    ) -> None:
        self.conv = Convolution(
            inputs,
            outputs,
            kernel_size=config.up_kernel_size if transposed else config.kernel_size,
            stride=stride,
            transposed=transposed,
            use_bias=config.bias,
            rngs=rngs,
        )
        steps = []
        for letter in "" if conv_only else config.adn_ordering:
            if letter == "N" and config.norm is not None:
                self.norm = make_norm(*config.norm, outputs, rngs)
                steps.append("norm")
            elif letter == "A" and config.act is not None:
                self.activation = make_activation(*config.act)
                steps.append("activation")
            elif letter == "D" and config.dropout:
                self.dropout = nnx.Dropout(config.dropout, deterministic=True)
                steps.append("dropout")
        self.steps = tuple(steps)

    def __call__(self, x: jax.Array, tap: Tap) -> jax.Array:
        x = self.conv(x, tap.under("conv"))
        for step in self.steps:
            x = tap(step, getattr(self, step)(x))
        return tap("", x)


class ResidualUnit(nnx.Module):
    """Several convolution blocks in a row plus a shortcut around them."""

    def __init__(
        self,
        config: UNetConfig,
        inputs: int,
        outputs: int,
        *,
        stride: Triple = (1, 1, 1),
        units: int,
        last_conv_only: bool = False,
        rngs: nnx.Rngs,
    ) -> None:
        self.units = nnx.List(
            ConvolutionBlock(
                config,
                outputs if j else inputs,
                outputs,
                stride=(1, 1, 1) if j else stride,
                conv_only=last_conv_only and j == units - 1,
                rngs=rngs,
            )
            for j in range(units)
        )
        strided = math.prod(stride) != 1
        shortcut = Convolution(
            inputs,
            outputs,
            kernel_size=config.kernel_size if strided else (1, 1, 1),
            stride=stride,
            use_bias=config.bias,
            rngs=rngs,
        )
        self.shortcut = shortcut if strided or inputs != outputs else None

    def __call__(self, x: jax.Array, tap: Tap) -> jax.Array:
        y = x
        for j, unit in enumerate(self.units):
            y = unit(y, tap.under(f"units.{j}"))
        shortcut = x if self.shortcut is None else self.shortcut(x, tap.under("shortcut"))
        return tap("", y + shortcut)


class JoinedUpsampling(nnx.Module):
    """Joins the skip with what comes from below, up-samples, and refines if residual."""

    def __init__(
        self,
        config: UNetConfig,
        inputs: int,
        outputs: int,
        *,
        stride: Triple,
        is_top: bool,
        rngs: nnx.Rngs,
    ) -> None:
        residual = config.num_res_units > 0
        self.upsample = ConvolutionBlock(
            config,
            inputs,
            outputs,
            stride=stride,
            transposed=True,
            conv_only=is_top and not residual,
            rngs=rngs,
        )
        refine = partial(ResidualUnit, units=1, last_conv_only=is_top, rngs=rngs)
        self.refine = refine(config, outputs, outputs) if residual else None

    def __call__(self, skip: jax.Array, below: jax.Array, tap: Tap) -> jax.Array:
        x = tap("joined", jnp.concatenate([skip, below], axis=-1))
        x = self.upsample(x, tap.under("upsample"))
        if self.refine is not None:
            x = self.refine(x, tap.under("refine"))
        return tap("", x)


class UNet(nnx.Module):
    """The network; see `jaxsal.nets.registry.NetworkClass`."""

    Config = UNetConfig

    def __init__(self, config: UNetConfig, rngs: nnx.Rngs) -> None:
        self.config = config
        widths = (config.in_channels, *config.channels)
        strides = (*config.strides, (1, 1, 1))  # the bottleneck keeps its size

        def block(level: int) -> ConvolutionBlock | ResidualUnit:
            inputs, outputs, stride = widths[level], widths[level + 1], strides[level]
            if config.num_res_units == 0:
                return ConvolutionBlock(config, inputs, outputs, stride=stride, rngs=rngs)
            return ResidualUnit(
                config, inputs, outputs, stride=stride, units=config.num_res_units, rngs=rngs
            )

        def decoder(level: int) -> JoinedUpsampling:
            is_bottom, is_top = level == config.levels - 1, level == 0
            below = config.channels[level + 1] if is_bottom else config.channels[level]
            return JoinedUpsampling(
                config,
                config.channels[level] + below,
                config.out_channels if is_top else config.channels[level - 1],
                stride=strides[level],
                is_top=is_top,
                rngs=rngs,
            )

        self.encoder = nnx.List(block(level) for level in range(config.levels))
        self.bottleneck = block(config.levels)
        self.decoder = nnx.List(decoder(level) for level in range(config.levels))

    def __call__(
        self, batch: jax.Array, perturbations: Mapping[str, jax.Array] | None = None
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Logits and all activations by name."""
        tap = Tap(perturbations)
        skips = encode(self.encoder, batch, tap)
        below = self.bottleneck(skips[-1], tap.under("bottleneck"))
        return decode(self.decoder, skips, below, tap), tap.activations
