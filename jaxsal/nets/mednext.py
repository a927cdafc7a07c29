"""MONAI's 3D ``MedNeXt`` (after Roy et al. 2023), and with other ratios that of MIC-DKFZ.

Each block mixes the voxels of a channel by a depthwise convolution, then the channels of a voxel
by two convolutions of one voxel, the first of which makes more of them. A level below is half as
large and twice as wide; blocks with a strided depthwise convolution, or a transposed one, lead from
one to the other. The decoder adds the encoder's outputs.

Layer names, for i from the top (0) down: ``stem``, ``encoder.i``, ``bottleneck``, ``decoder.i``,
and ``head``, the logits. Inside a level: ``downsample`` or, in the decoder, ``upsample`` and
``sum``; then ``blocks.j``. Inside a block: ``depthwise``, ``norm``, ``expand``, ``activation``,
``response`` where it has one, ``compress``, ``shortcut`` where it has weights. A block's own name
is its output. Inside ``upsample`` an axis has 2n - 1 positions for n below; the block's output has
one more, a zero before them.
"""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from flax import nnx

from jaxsal.nets.blocks import Convolution, InstanceNorm, Tap, decode, encode, make_activation
from jaxsal.nets.mednext_config import MedNeXtConfig
from jaxsal.nets.standardise import standardise
from jaxsal.types import Triple

_SAME: Triple = (1, 1, 1)
_DOUBLE: Triple = (2, 2, 2)
_NONE: Triple = (0, 0, 0)
_EPSILON = 1e-5


class ChannelNorm(nnx.Module):
    """Normalisation of each voxel over its channels."""

    def __init__(self, channels: int) -> None:
        self.scale = nnx.Param(jnp.ones(channels))
        self.bias = nnx.Param(jnp.zeros(channels))

    def __call__(self, x: jax.Array) -> jax.Array:
        return standardise(x, (4,), _EPSILON) * self.scale[...] + self.bias[...]


class ResponseNorm(nnx.Module):
    """Global response normalisation (Woo et al. 2023): channels compete by their norms."""

    def __init__(self, channels: int) -> None:
        self.response_scale = nnx.Param(jnp.zeros((1, 1, 1, 1, channels)))
        self.response_bias = nnx.Param(jnp.zeros((1, 1, 1, 1, channels)))

    def __call__(self, x: jax.Array) -> jax.Array:
        squares = jnp.square(x).sum((1, 2, 3), keepdims=True)
        present = squares > 0  # at zero, whose norm has no derivative, PyTorch takes zero
        norms = jnp.where(present, jnp.sqrt(jnp.where(present, squares, 1)), 0)
        relative = norms / (norms.mean(-1, keepdims=True) + 1e-6)
        return self.response_scale[...] * (x * relative) + self.response_bias[...] + x


class MedNeXtBlock(nnx.Module):
    """A block that keeps the size or, with a stride, halves or doubles it.

    What doubles the size leaves out the first position of each axis, which is filled with zeros.

    Args:
        config: of the network.
        inputs: number of channels.
        outputs: likewise.
        ratio: how many times as many channels it has inside.
        stride: of the depthwise convolution.
        transposed: whether that doubles the size.
        has_response: whether the channels inside are normalised by their norms.
        rngs: required by Flax.
    """

    def __init__(
        self,
        config: MedNeXtConfig,
        inputs: int,
        outputs: int,
        ratio: int,
        *,
        stride: Triple = _SAME,
        transposed: bool = False,
        has_response: bool,
        rngs: nnx.Rngs,
    ) -> None:
        size = config.kernel_size
        self.keeps_size, self.doubles_size = stride == _SAME, transposed
        self.has_shortcut = config.use_residual_connection
        self.depthwise = Convolution(
            inputs,
            inputs,
            kernel_size=(size, size, size),
            stride=stride,
            transposed=transposed,
            output_padding=_NONE,
            groups=inputs,
            rngs=rngs,
        )
        self.norm = (
            InstanceNorm(inputs, epsilon=_EPSILON, affine=True)  # group norm, a group per channel
            if config.norm_type == "group"
            else ChannelNorm(inputs)
        )
        wide = ratio * inputs
        self.expand = Convolution(inputs, wide, kernel_size=_SAME, rngs=rngs)
        self.activation = make_activation("gelu", ())
        self.response = ResponseNorm(wide) if has_response else None
        self.compress = Convolution(wide, outputs, kernel_size=_SAME, rngs=rngs)
        self.shortcut = (
            Convolution(
                inputs,
                outputs,
                kernel_size=_SAME,
                stride=stride,
                transposed=transposed,
                output_padding=_NONE,
                rngs=rngs,
            )
            if self.has_shortcut and not self.keeps_size
            else None
        )

    def __call__(self, x: jax.Array, tap: Tap) -> jax.Array:
        y = self.depthwise(x, tap.under("depthwise"))
        y = tap("norm", self.norm(y))
        y = tap("activation", self.activation(self.expand(y, tap.under("expand"))))
        if self.response is not None:
            y = tap("response", self.response(y))
        y = self.compress(y, tap.under("compress"))
        if self.shortcut is not None:
            y = y + self.shortcut(x, tap.under("shortcut"))
        elif self.has_shortcut:
            y = y + x
        if self.doubles_size:
            y = jnp.pad(y, [(0, 0), (1, 0), (1, 0), (1, 0), (0, 0)])
        return tap("", y)


class EncoderLevel(nnx.Module):
    """Halves the size, below the top, and refines."""

    def __init__(self, config: MedNeXtConfig, level: int, rngs: nnx.Rngs) -> None:
        widths, has_response = config.widths, config.global_resp_norm
        ratios = (*config.encoder_expansion_ratio, config.bottleneck_expansion_ratio)
        counts = (*config.blocks_down, config.blocks_bottleneck)
        self.downsample = (
            MedNeXtBlock(
                config,
                widths[level - 1],
                widths[level],
                config.down_expansion_ratio[level - 1],
                stride=_DOUBLE,
                has_response=False,
                rngs=rngs,
            )
            if level
            else None
        )
        self.blocks = nnx.List(
            MedNeXtBlock(
                config,
                widths[level],
                widths[level],
                ratios[level],
                has_response=has_response,
                rngs=rngs,
            )
            for _ in range(counts[level])
        )

    def __call__(self, x: jax.Array, tap: Tap) -> jax.Array:
        if self.downsample is not None:
            x = self.downsample(x, tap.under("downsample"))
        for j, block in enumerate(self.blocks):
            x = block(x, tap.under(f"blocks.{j}"))
        return tap("", x)


class DecoderLevel(nnx.Module):
    """Doubles the size of what comes from below, adds the skip to it, and refines."""

    def __init__(self, config: MedNeXtConfig, level: int, rngs: nnx.Rngs) -> None:
        width, below = config.widths[level : level + 2]
        number = config.levels - 1 - level  # from the bottom up
        ratio, has_response = config.decoder_expansion_ratio[number], config.global_resp_norm
        self.upsample = MedNeXtBlock(
            config,
            below,
            width,
            ratio,
            stride=_DOUBLE,
            transposed=True,
            has_response=has_response,
            rngs=rngs,
        )
        self.blocks = nnx.List(
            MedNeXtBlock(config, width, width, ratio, has_response=has_response, rngs=rngs)
            for _ in range(config.blocks_up[number])
        )

    def __call__(self, skip: jax.Array, below: jax.Array, tap: Tap) -> jax.Array:
        x = tap("sum", self.upsample(below, tap.under("upsample")) + skip)
        for j, block in enumerate(self.blocks):
            x = block(x, tap.under(f"blocks.{j}"))
        return tap("", x)


class MedNeXt(nnx.Module):
    """The network; see `jaxsal.nets.registry.NetworkClass`."""

    Config = MedNeXtConfig

    def __init__(self, config: MedNeXtConfig, rngs: nnx.Rngs) -> None:
        self.stem = Convolution(
            config.in_channels, config.init_filters, kernel_size=_SAME, rngs=rngs
        )
        levels = [EncoderLevel(config, level, rngs) for level in range(config.levels + 1)]
        self.encoder, self.bottleneck = nnx.List(levels[:-1]), levels[-1]
        self.decoder = nnx.List(DecoderLevel(config, level, rngs) for level in range(config.levels))
        self.head = Convolution(
            config.init_filters,
            config.out_channels,
            kernel_size=_SAME,
            transposed=True,
            rngs=rngs,
        )

    def __call__(
        self, batch: jax.Array, perturbations: Mapping[str, jax.Array] | None = None
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Logits and all activations by name."""
        tap = Tap(perturbations)
        x = self.stem(batch, tap.under("stem"))
        skips = encode(self.encoder, x, tap)
        below = self.bottleneck(skips[-1], tap.under("bottleneck"))
        x = decode(self.decoder, skips, below, tap)
        return self.head(x, tap.under("head")), tap.activations
