"""MONAI's 3D ``DynUNet`` (after Isensee et al. 2021): the paper's nnU-Net.

Level i of the encoder divides the size by ``strides[i]``; the decoder's level i up-samples what
comes from below, joins the encoder's output to it along the channels, and refines.

Layer names, for i from the top (0) down: ``encoder.i``, ``bottleneck``, ``decoder.i.upsample``,
``decoder.i.joined``, ``decoder.i.refine``, and ``head``, the logits; inside an encoder level, the
bottleneck and ``refine``: ``units.j.conv``, ``units.j.norm``, ``units.0.activation``; in residual
blocks also ``shortcut.conv``, ``shortcut.norm`` and ``sum``. A block's own name is its output.
"""

from __future__ import annotations

from collections.abc import Mapping

import jax
from flax import nnx

from jaxsal.nets.blocks import Convolution, Tap, decode, encode, make_activation
from jaxsal.nets.dynunet_config import DynUNetConfig
from jaxsal.nets.units import ConvolutionUnit, DecoderLevel
from jaxsal.types import Triple

_SAME: Triple = (1, 1, 1)


class DoubleConvolution(nnx.Module):
    """Two convolutions with normalisation, one activation function for both, maybe a shortcut."""

    def __init__(
        self,
        config: DynUNetConfig,
        inputs: int,
        outputs: int,
        *,
        kernel_size: Triple,
        stride: Triple = _SAME,
        residual: bool,
        rngs: nnx.Rngs,
    ) -> None:
        def unit(inputs: int, kernel_size: Triple, stride: Triple) -> ConvolutionUnit:
            return ConvolutionUnit(
                inputs,
                outputs,
                kernel_size=kernel_size,
                stride=stride,
                padding=_padding(kernel_size, stride),
                norm=config.norm_name,
                dropout=config.dropout,
                rngs=rngs,
            )

        self.units = nnx.List(
            [unit(inputs, kernel_size, stride), unit(outputs, kernel_size, _SAME)]
        )
        self.residual = residual
        bypassed = residual and (inputs != outputs or stride != _SAME)
        self.shortcut = unit(inputs, _SAME, stride) if bypassed else None
        self.activation = make_activation(*config.act_name) if config.act_name else None

    def __call__(self, x: jax.Array, tap: Tap) -> jax.Array:
        y = self.units[0](x, tap.under("units.0"), self.activation)
        y = self.units[1](y, tap.under("units.1"))
        if self.residual:
            shortcut = x if self.shortcut is None else self.shortcut(x, tap.under("shortcut"))
            y = tap("sum", y + shortcut)
        return tap("", y if self.activation is None else self.activation(y))


def _padding(kernel_size: Triple, stride: Triple) -> Triple:
    """MONAI's choice, which divides sizes by the stride exactly."""
    x, y, z = ((k - s + 1) // 2 for k, s in zip(kernel_size, stride, strict=True))
    return x, y, z


def _decoder_level(config: DynUNetConfig, level: int, rngs: nnx.Rngs) -> DecoderLevel:
    outputs, inputs = config.filters[level : level + 2]
    refine = DoubleConvolution(
        config,
        2 * outputs,
        outputs,
        kernel_size=config.kernel_size[level + 1],
        residual=False,
        rngs=rngs,
    )
    return DecoderLevel(
        inputs,
        refine,
        outputs,
        stride=config.strides[level + 1],
        use_bias=config.trans_bias,
        dropout=config.dropout,
        rngs=rngs,
    )


class DynUNet(nnx.Module):
    """The network; see `jaxsal.nets.registry.NetworkClass`."""

    Config = DynUNetConfig

    def __init__(self, config: DynUNetConfig, rngs: nnx.Rngs) -> None:
        widths = (config.in_channels, *config.filters)
        blocks = [
            DoubleConvolution(
                config,
                widths[level],
                widths[level + 1],
                kernel_size=config.kernel_size[level],
                stride=config.strides[level],
                residual=config.res_block,
                rngs=rngs,
            )
            for level in range(config.levels + 1)
        ]
        self.encoder = nnx.List(blocks[:-1])
        self.bottleneck = blocks[-1]
        self.decoder = nnx.List(
            _decoder_level(config, level, rngs) for level in range(config.levels)
        )
        self.head = Convolution(
            config.filters[0],
            config.out_channels,
            kernel_size=_SAME,
            dropout=config.dropout,  # as MONAI has it: of the logits, too
            rngs=rngs,
        )

    def __call__(
        self, batch: jax.Array, perturbations: Mapping[str, jax.Array] | None = None
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Logits and all activations by name."""
        tap = Tap(perturbations)
        skips = encode(self.encoder, batch, tap)
        x = self.bottleneck(skips[-1], tap.under("bottleneck"))
        x = decode(self.decoder, skips, x, tap)
        return self.head(x, tap.under("head")), tap.activations
