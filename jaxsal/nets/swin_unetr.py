"""MONAI's 3D ``SwinUNETR`` (Hatamizadeh et al. 2022; v2: He et al. 2023), the paper's third.

A Swin transformer on patches of two voxels, whose features at five sizes a convolutional decoder
joins and up-samples.

Layer names: ``embedding``; ``stages.i`` for i = 0 … 3, with ``stages.i.stem`` (v2's convolutions),
``stages.i.blocks.j`` and ``stages.i.merging``; ``features.i``, the normalised embedding (0) and
outputs of the stages; ``skips.i``, from the image (0) down, ``bottleneck``, ``decoder.i`` with
``.upsample``, ``.joined`` and ``.refine``, and ``head``, the logits. Inside ``skips``,
``bottleneck``, ``refine`` and ``stem``: ``units.j.conv``, ``units.j.norm``, ``units.0.activation``,
``shortcut.conv``, ``shortcut.norm`` and ``sum``. A block's own name is its output.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import jax
from flax import nnx

from jaxsal.nets.activations import ACTIVATIONS
from jaxsal.nets.blocks import Convolution, Tap, decode
from jaxsal.nets.settings import Setting
from jaxsal.nets.swin_transformer import (
    Merging,
    TransformerBlock,
    layer_norm,
    run_block,
)
from jaxsal.nets.swin_unetr_config import STAGES, SwinUNETRConfig
from jaxsal.nets.units import ConvolutionUnit, join

_UP = (2, 2, 2)
_KERNEL, _POINT = (3, 3, 3), (1, 1, 1)
_STEM_NORM: Setting = ("instance", ())  # whatever the norm of the other convolutions


class UnetResBlock(nnx.Module):
    """Two convolutions with norms and leaky ReLUs, and a shortcut around them."""

    def __init__(self, inputs: int, outputs: int, norm: Setting | None, rngs: nnx.Rngs) -> None:
        def unit(inputs: int, kernel_size: tuple[int, int, int]) -> ConvolutionUnit:
            return ConvolutionUnit(inputs, outputs, kernel_size=kernel_size, norm=norm, rngs=rngs)

        self.units = nnx.List([unit(inputs, _KERNEL), unit(outputs, _KERNEL)])
        self.shortcut = unit(inputs, _POINT) if inputs != outputs else None

    def __call__(self, x: jax.Array, tap: Tap) -> jax.Array:
        leaky_relu = ACTIVATIONS["leakyrelu"]
        y = self.units[0](x, tap.under("units.0"), leaky_relu)
        y = self.units[1](y, tap.under("units.1"))
        shortcut = x if self.shortcut is None else self.shortcut(x, tap.under("shortcut"))
        return tap("", leaky_relu(tap("sum", y + shortcut)))


class Embedding(nnx.Module):
    """A vector per patch of two voxels per axis."""

    def __init__(self, config: SwinUNETRConfig, rngs: nnx.Rngs) -> None:
        width = config.feature_size
        self.projection = Convolution(
            config.in_channels, width, kernel_size=_UP, stride=_UP, rngs=rngs
        )
        self.norm = layer_norm(width, rngs) if config.patch_norm else None

    def __call__(self, x: jax.Array, tap: Tap) -> jax.Array:
        x = self.projection(x, tap.under("projection"))
        return tap("", x if self.norm is None else self.norm(x))


class Stage(nnx.Module):
    """Transformer blocks, every other one shifted, and the merging that halves the size."""

    def __init__(self, config: SwinUNETRConfig, stage: int, rngs: nnx.Rngs) -> None:
        width = config.width(stage)
        self.stem = UnetResBlock(width, width, _STEM_NORM, rngs) if config.use_v2 else None
        self.blocks = nnx.List(
            TransformerBlock(config, stage, shifted=j % 2 == 1, rngs=rngs)
            for j in range(config.depths[stage])
        )
        self.merging = Merging(config, stage, rngs)

    def __call__(self, x: jax.Array, tap: Tap, *, rematerialise: bool) -> jax.Array:
        if self.stem is not None:
            x = self.stem(x, tap.under("stem"))
        for j, block in enumerate(self.blocks):
            x = run_block(block, x, tap.under(f"blocks.{j}"), rematerialise=rematerialise)
        return tap("", self.merging(x, tap.under("merging")))


class UnetrUpBlock(nnx.Module):
    """Up-samples what comes from below, joins the skip to it, and refines."""

    def __init__(self, inputs: int, outputs: int, norm: Setting | None, rngs: nnx.Rngs) -> None:
        self.upsample = Convolution(
            inputs,
            outputs,
            kernel_size=_UP,
            stride=_UP,
            transposed=True,
            use_bias=False,
            rngs=rngs,
        )
        self.refine = UnetResBlock(2 * outputs, outputs, norm, rngs)

    def __call__(self, skip: jax.Array, below: jax.Array, tap: Tap) -> jax.Array:
        x = self.upsample(below, tap.under("upsample"))
        x = tap("joined", join(x, skip))
        return tap("", self.refine(x, tap.under("refine")))


class SwinUNETR(nnx.Module):
    """The network; see `jaxsal.nets.registry.NetworkClass`."""

    Config = SwinUNETRConfig
    rematerialises = True

    def __init__(self, config: SwinUNETRConfig, rngs: nnx.Rngs) -> None:
        width, norm = config.feature_size, config.norm_name
        self.embedding = Embedding(config, rngs)
        self.stages = nnx.List(Stage(config, stage, rngs) for stage in range(STAGES))
        self.feature_norms = (
            nnx.List(layer_norm(width * 2**i, rngs, affine=False) for i in range(STAGES + 1))
            if config.normalize
            else None
        )
        inputs = (config.in_channels, width, 2 * width, 4 * width)
        outputs = (width, *inputs[1:])
        self.skips = nnx.List(
            UnetResBlock(i, o, norm, rngs) for i, o in zip(inputs, outputs, strict=True)
        )
        self.bottleneck = UnetResBlock(16 * width, 16 * width, norm, rngs)
        widths = (*outputs, 8 * width, 16 * width)
        self.decoder = nnx.List(
            UnetrUpBlock(below, here, norm, rngs) for here, below in pairwise(widths)
        )
        self.head = Convolution(width, config.out_channels, kernel_size=_POINT, rngs=rngs)

    def __call__(
        self,
        batch: jax.Array,
        perturbations: Mapping[str, jax.Array] | None = None,
        *,
        rematerialise: bool = False,
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Logits and all activations by name.

        To rematerialise is to keep nothing of the transformer's blocks for derivatives but what
        goes into them.
        """
        tap = Tap(perturbations)
        features = self.encode(batch, tap, rematerialise=rematerialise)
        skips = [
            skip(x, tap.under(f"skips.{i}"))
            for i, (skip, x) in enumerate(zip(self.skips, [batch, *features[:3]], strict=True))
        ]
        skips.append(features[3])
        below = self.bottleneck(features[4], tap.under("bottleneck"))
        below = decode(self.decoder, skips, below, tap)
        return self.head(below, tap.under("head")), tap.activations

    def encode(self, batch: jax.Array, tap: Tap, *, rematerialise: bool) -> list[jax.Array]:
        """The transformer's features: of the embedding and of each stage's output."""
        x = self.embedding(batch, tap.under("embedding"))
        features = [self._feature(x, 0, tap)]
        for i, stage in enumerate(self.stages):
            x = stage(x, tap.under(f"stages.{i}"), rematerialise=rematerialise)
            features.append(self._feature(x, i + 1, tap))
        return features

    def _feature(self, x: jax.Array, index: int, tap: Tap) -> jax.Array:
        norms = self.feature_norms
        return x if norms is None else tap(f"features.{index}", norms[index](x))
