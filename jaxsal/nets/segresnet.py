"""MONAI's 3D ``SegResNet`` (after Myronenko 2018) and ``SegResNetDS``, the network of Auto3DSeg.

Residual blocks on levels, each half as large and twice as wide as the one above. The decoder
up-samples what comes from below and adds the encoder's output to it. The two differ in kernels and
strides, which in ``SegResNetDS`` depend on the voxel size, in how they up-sample, and in the head.

Layer names, for i from the top (0) down: ``stem``, ``encoder.i``, ``bottleneck``, ``decoder.i``,
and ``head``, the logits. Inside a level: ``downsample`` or, in the decoder, ``upsample``, with
``.reduce`` and ``.conv`` where it has them, and ``sum``; then ``blocks.j``, with ``.units.k.norm``,
``.units.k.activation`` and ``.units.k.conv``. Inside ``SegResNet``'s head: ``norm``,
``activation``, ``conv``. A block's own name is its output.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from flax import nnx

from jaxsal.nets.blocks import Convolution, Tap, decode, encode, make_activation, make_norm
from jaxsal.nets.interpolation import interpolated, linear
from jaxsal.nets.segresnet_config import ResidualLevels, SegResNetConfig, SegResNetDSConfig
from jaxsal.types import Triple

_SAME: Triple = (1, 1, 1)
_DOUBLE: Triple = (2, 2, 2)


class PreactivatedUnit(nnx.Module):
    """Normalisation and activation, then a convolution."""

    def __init__(
        self,
        config: ResidualLevels,
        inputs: int,
        outputs: int,
        *,
        kernel_size: Triple,
        use_bias: bool = False,
        has_activation: bool,
        rngs: nnx.Rngs,
    ) -> None:
        self.norm = make_norm(*config.norm, inputs, rngs) if config.norm else None
        self.activation = make_activation(*config.act) if has_activation and config.act else None
        self.conv = Convolution(
            inputs, outputs, kernel_size=kernel_size, use_bias=use_bias, rngs=rngs
        )

    def __call__(
        self, x: jax.Array, tap: Tap, activation: Callable[[jax.Array], jax.Array] | None = None
    ) -> jax.Array:
        """The unit's output; an activation function that it shares with others can be given."""
        for name, layer in (("norm", self.norm), ("activation", self.activation or activation)):
            if layer is not None:
                x = tap(name, layer(x))
        return self.conv(x, tap.under("conv"))


class ResidualBlock(nnx.Module):
    """Two units and a shortcut around them."""

    def __init__(
        self, config: ResidualLevels, channels: int, kernel_size: Triple, rngs: nnx.Rngs
    ) -> None:
        shared = config.act if config.shares_activation else None
        self.activation = make_activation(*shared) if shared else None
        self.units = nnx.List(
            PreactivatedUnit(
                config,
                channels,
                channels,
                kernel_size=kernel_size,
                has_activation=not config.shares_activation,
                rngs=rngs,
            )
            for _ in range(2)
        )

    def __call__(self, x: jax.Array, tap: Tap) -> jax.Array:
        y = x
        for k, unit in enumerate(self.units):
            y = unit(y, tap.under(f"units.{k}"), self.activation)
        return tap("", y + x)


class EncoderLevel(nnx.Module):
    """Halves the size, below the top, and refines."""

    def __init__(self, config: ResidualLevels, level: int, rngs: nnx.Rngs) -> None:
        widths, kernels = config.widths, config.kernels
        self.downsample = (
            Convolution(
                widths[level - 1],
                widths[level],
                kernel_size=kernels[level - 1],
                stride=config.scales[level - 1],
                use_bias=False,
                rngs=rngs,
            )
            if level
            else None
        )
        self.blocks = nnx.List(
            ResidualBlock(config, widths[level], kernels[level], rngs)
            for _ in range(config.blocks_down[level])
        )

    def __call__(self, x: jax.Array, tap: Tap) -> jax.Array:
        if self.downsample is not None:
            x = self.downsample(x, tap.under("downsample"))
        for j, block in enumerate(self.blocks):
            x = block(x, tap.under(f"blocks.{j}"))
        return tap("", x)


class Upsampling(nnx.Module):
    """Up-samples by a transposed convolution, linear interpolation or a shuffle of channels.

    Args:
        config: the architecture, with the mode.
        level: to which it up-samples.
        reduces: whether a convolution of one voxel comes before it and halves the channels.
        kernel_size: of the transposed convolution.
        use_bias: of all its convolutions but the one before.
        rngs: for the initial weights.
    """

    def __init__(
        self,
        config: ResidualLevels,
        level: int,
        *,
        reduces: bool,
        kernel_size: Triple,
        use_bias: bool,
        rngs: nnx.Rngs,
    ) -> None:
        outputs, below = config.widths[level : level + 2]
        self.mode, self.stride = config.upsample_mode, config.scales[level]
        self.reduce = (
            Convolution(below, outputs, kernel_size=_SAME, use_bias=False, rngs=rngs)
            if reduces
            else None
        )
        self.conv = self._convolution(
            outputs if reduces else below, outputs, kernel_size, use_bias=use_bias, rngs=rngs
        )

    def _convolution(
        self, inputs: int, outputs: int, kernel_size: Triple, *, use_bias: bool, rngs: nnx.Rngs
    ) -> Convolution | None:
        if self.mode == "nontrainable":
            return None
        if self.mode == "deconv":
            return Convolution(
                inputs,
                outputs,
                kernel_size=kernel_size,
                stride=self.stride,
                transposed=True,
                use_bias=use_bias,
                rngs=rngs,
            )
        return Convolution(inputs, 8 * outputs, kernel_size=(3, 3, 3), use_bias=use_bias, rngs=rngs)

    def __call__(self, x: jax.Array, tap: Tap) -> jax.Array:
        if self.reduce is not None:
            x = self.reduce(x, tap.under("reduce"))
        if self.conv is not None:
            x = self.conv(x, tap.under("conv"))
        if self.mode == "nontrainable":
            x = _interpolated(x, self.stride)
        elif self.mode == "pixelshuffle":
            x = _smoothed(_shuffled(x))
        return tap("", x)


def _interpolated(x: jax.Array, stride: Triple) -> jax.Array:
    """Trilinear up-sampling, as PyTorch's with ``align_corners=False``."""
    for axis in (3, 2, 1):
        if stride[axis - 1] > 1:
            size, factor = x.shape[axis], stride[axis - 1]
            x = interpolated(x, axis, linear(size, factor * size, factor))
    return x


def _shuffled(x: jax.Array) -> jax.Array:
    """Eight channels become the voxels of a 2³ block: (B, X, Y, Z, 8 C) -> (B, 2X, 2Y, 2Z, C)."""
    examples, *size, channels = x.shape
    blocks = x.reshape(examples, *size, channels // 8, *_DOUBLE).transpose(0, 1, 5, 2, 6, 3, 7, 4)
    return blocks.reshape(examples, *(2 * n for n in size), channels // 8)


def _smoothed(x: jax.Array) -> jax.Array:
    """Means over each voxel and those before it, a 2³ block; zeros lie before the first."""
    for axis in (1, 2, 3):
        edges = [(0, 0, 0)] * x.ndim
        edges[axis] = (1, -1, 0)
        x = (x + jax.lax.pad(x, jnp.zeros((), x.dtype), edges)) / 2
    return x


class DecoderLevel(nnx.Module):
    """Up-samples what comes from below, adds the skip to it, and refines."""

    def __init__(
        self, config: ResidualLevels, level: int, upsample: Upsampling, rngs: nnx.Rngs
    ) -> None:
        self.upsample = upsample
        self.blocks = nnx.List(
            ResidualBlock(config, config.widths[level], config.kernels[level], rngs)
            for _ in range(config.blocks_up[config.levels - 1 - level])
        )

    def __call__(self, skip: jax.Array, below: jax.Array, tap: Tap) -> jax.Array:
        x = tap("sum", self.upsample(below, tap.under("upsample")) + skip)
        for j, block in enumerate(self.blocks):
            x = block(x, tap.under(f"blocks.{j}"))
        return tap("", x)


class _Levels(nnx.Module):
    """All but the head: from images to the features of the top level."""

    def __init__(
        self,
        config: ResidualLevels,
        upsample: Callable[[int], Upsampling],
        dropout: float,
        rngs: nnx.Rngs,
    ) -> None:
        self.stem = Convolution(
            config.in_channels,
            config.init_filters,
            kernel_size=config.kernels[0],
            use_bias=False,
            dropout=dropout,
            rngs=rngs,
        )
        levels = [EncoderLevel(config, level, rngs) for level in range(config.levels + 1)]
        self.encoder, self.bottleneck = nnx.List(levels[:-1]), levels[-1]
        self.decoder = nnx.List(
            DecoderLevel(config, level, upsample(level), rngs) for level in range(config.levels)
        )

    def features(self, batch: jax.Array, tap: Tap) -> jax.Array:
        """The features (B, X, Y, Z, init_filters) of images."""
        x = self.stem(batch, tap.under("stem"))
        skips = encode(self.encoder, x, tap)
        below = self.bottleneck(skips[-1] if skips else x, tap.under("bottleneck"))
        return decode(self.decoder, skips, below, tap)


class SegResNet(_Levels):
    """The network; see `jaxsal.nets.registry.NetworkClass`."""

    Config = SegResNetConfig

    def __init__(self, config: SegResNetConfig, rngs: nnx.Rngs) -> None:
        def upsample(level: int) -> Upsampling:
            return Upsampling(
                config, level, reduces=True, kernel_size=_DOUBLE, use_bias=True, rngs=rngs
            )

        super().__init__(config, upsample, config.dropout_prob, rngs)
        self.head = (
            PreactivatedUnit(
                config,
                config.init_filters,
                config.out_channels,
                kernel_size=_SAME,
                use_bias=True,
                has_activation=True,
                rngs=rngs,
            )
            if config.use_conv_final
            else None
        )

    def __call__(
        self, batch: jax.Array, perturbations: Mapping[str, jax.Array] | None = None
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Logits and all activations by name."""
        tap = Tap(perturbations)
        x = self.features(batch, tap)
        if self.head is not None:
            x = tap("head", self.head(x, tap.under("head")))
        return x, tap.activations


class SegResNetDS(_Levels):
    """The network; see `jaxsal.nets.registry.NetworkClass`."""

    Config = SegResNetDSConfig

    def __init__(self, config: SegResNetDSConfig, rngs: nnx.Rngs) -> None:
        def upsample(level: int) -> Upsampling:
            return Upsampling(
                config,
                level,
                reduces=config.upsample_mode == "nontrainable",
                kernel_size=config.kernels[level],
                use_bias=False,
                rngs=rngs,
            )

        super().__init__(config, upsample, 0.0, rngs)
        self.head = Convolution(
            config.init_filters, config.out_channels, kernel_size=_SAME, rngs=rngs
        )

    def __call__(
        self, batch: jax.Array, perturbations: Mapping[str, jax.Array] | None = None
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Logits and all activations by name."""
        tap = Tap(perturbations)
        return self.head(self.features(batch, tap), tap.under("head")), tap.activations
