"""Pieces that DynUNet and nnU-Net's networks share: convolution with norm, pooling, decoder."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
from flax import nnx

from jaxsal.nets.blocks import Convolution, Tap, make_activation, make_norm
from jaxsal.types import Triple

if TYPE_CHECKING:
    from jaxsal.nets.settings import Setting


class ConvolutionUnit(nnx.Module):
    """A convolution, then normalisation and activation, each where it is asked for.

    Layer names: ``conv``, ``norm``, ``activation``; the unit's own name is its output.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        kernel_size: Triple,
        stride: Triple = (1, 1, 1),
        padding: Triple | None = None,
        use_bias: bool = False,
        norm: Setting | None = None,
        act: Setting | None = None,
        activation_first: bool = False,
        dropout: float = 0.0,
        rngs: nnx.Rngs,
    ) -> None:
        self.conv = Convolution(
            inputs,
            outputs,
            kernel_size=kernel_size,
            stride=stride,
            padding=padding,
            use_bias=use_bias,
            dropout=dropout,
            rngs=rngs,
        )
        self.norm = make_norm(*norm, outputs, rngs) if norm else None
        self.activation = make_activation(*act) if act else None
        self.activation_first = activation_first

    def __call__(
        self, x: jax.Array, tap: Tap, activation: Callable[[jax.Array], jax.Array] | None = None
    ) -> jax.Array:
        """The unit's output.

        Args:
            x: its input.
            tap: collects the activations.
            activation: one that the unit shares with others, if it has none of its own.
        """
        x = self.conv(x, tap.under("conv"))
        steps = [("norm", self.norm), ("activation", self.activation or activation)]
        for name, layer in reversed(steps) if self.activation_first else steps:
            if layer is not None:
                x = tap(name, layer(x))
        return tap("", x)


def average_pool(x: jax.Array, stride: Triple) -> jax.Array:
    """Means over blocks of ``stride`` voxels: (B, X, Y, Z, C) -> (B, X / sx, Y / sy, Z / sz, C)."""
    sizes = [m for n, s in zip(x.shape[1:4], stride, strict=True) for m in (n // s, s)]
    return x.reshape(x.shape[0], *sizes, x.shape[-1]).mean((2, 4, 6))


class DecoderLevel(nnx.Module):
    """Up-samples what comes from below, joins the skip to it along the channels, and refines.

    Layer names: ``upsample``, ``joined``, ``refine``; the level's own name is its output.

    Args:
        inputs: channels from below.
        refine: takes twice ``outputs`` channels.
        outputs: channels of the skip.
        stride: up-sampling factor per axis, which is also the kernel's size.
        use_bias: of the up-sampling.
        dropout: rate after the up-sampling, in training.
        rngs: for the initial weights.
    """

    def __init__(
        self,
        inputs: int,
        refine: Callable[[jax.Array, Tap], jax.Array],
        outputs: int,
        *,
        stride: Triple,
        use_bias: bool,
        dropout: float = 0.0,
        rngs: nnx.Rngs,
    ) -> None:
        self.upsample = Convolution(
            inputs,
            outputs,
            kernel_size=stride,
            stride=stride,
            padding=(0, 0, 0),
            transposed=True,
            use_bias=use_bias,
            dropout=dropout,
            rngs=rngs,
        )
        self.refine = refine

    def __call__(self, skip: jax.Array, below: jax.Array, tap: Tap) -> jax.Array:
        x = self.upsample(below, tap.under("upsample"))
        x = tap("joined", join(x, skip))
        return tap("", self.refine(x, tap.under("refine")))


def join(upsampled: jax.Array, skip: jax.Array) -> jax.Array:
    """Concatenates along the channels, what comes from below first."""
    return jnp.concatenate([upsampled, skip], axis=-1)
