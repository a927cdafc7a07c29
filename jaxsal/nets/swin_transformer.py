"""The Swin transformer of MONAI's ``SwinUNETR``: blocks of attention, and merging between stages.

Layer names of a block: ``attention_norm``, ``attention``, ``attended`` (the sum with its input),
``perceptron_norm``, ``perceptron.hidden``, ``perceptron.activation``, ``perceptron``.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx

from jaxsal.nets.attention import WindowAttention
from jaxsal.nets.blocks import Tap
from jaxsal.nets.swin_unetr_config import OCTANTS, SwinUNETRConfig

_EPSILON = 1e-5


def layer_norm(channels: int, rngs: nnx.Rngs, *, affine: bool = True) -> nnx.LayerNorm:
    """Normalisation over the channels of each position, as PyTorch computes it."""
    return nnx.LayerNorm(
        channels,
        epsilon=_EPSILON,
        use_bias=affine,
        use_scale=affine,
        use_fast_variance=False,
        rngs=rngs,
    )


class Perceptron(nnx.Module):
    """Two linear layers with a GELU between them, at each position."""

    def __init__(self, channels: int, hidden: int, rngs: nnx.Rngs) -> None:
        self.hidden = nnx.Linear(channels, hidden, rngs=rngs)
        self.output = nnx.Linear(hidden, channels, rngs=rngs)

    def __call__(self, x: jax.Array, tap: Tap) -> jax.Array:
        x = tap("hidden", self.hidden(x))
        x = tap("activation", jax.nn.gelu(x, approximate=False))
        return tap("", self.output(x))


class TransformerBlock(nnx.Module):
    """Attention and a perceptron, each after a norm and with a shortcut around it."""

    def __init__(
        self, config: SwinUNETRConfig, stage: int, *, shifted: bool, rngs: nnx.Rngs
    ) -> None:
        channels = config.width(stage)
        self.shifted = shifted
        self.attention_norm = layer_norm(channels, rngs)
        self.attention = WindowAttention(
            channels,
            heads=config.num_heads[stage],
            window=config.window_size,
            use_bias=config.qkv_bias,
            rngs=rngs,
        )
        self.perceptron_norm = layer_norm(channels, rngs)
        self.perceptron = Perceptron(channels, config.hidden(stage), rngs)

    def __call__(self, x: jax.Array, tap: Tap) -> jax.Array:
        y = tap("attention_norm", self.attention_norm(x))
        y = tap("attention", self.attention(y, shifted=self.shifted))
        x = tap("attended", x + y)
        y = tap("perceptron_norm", self.perceptron_norm(x))
        return tap("", x + self.perceptron(y, tap.under("perceptron")))


class Merging(nnx.Module):
    """Blocks of 2 x 2 x 2 positions become one, with twice the channels."""

    def __init__(self, config: SwinUNETRConfig, stage: int, rngs: nnx.Rngs) -> None:
        channels = config.width(stage)
        self.octants = OCTANTS[config.downsample]
        self.norm = layer_norm(8 * channels, rngs)
        self.reduction = nnx.Linear(8 * channels, 2 * channels, use_bias=False, rngs=rngs)

    def __call__(self, x: jax.Array, tap: Tap) -> jax.Array:
        starts = (map(int, octant) for octant in self.octants)
        parts = [x[:, i::2, j::2, k::2] for i, j, k in starts]
        x = tap("norm", self.norm(jnp.concatenate(parts, axis=-1)))
        return tap("", self.reduction(x))


def run_block(
    block: Callable[[jax.Array, Tap], jax.Array], x: jax.Array, tap: Tap, *, rematerialise: bool
) -> jax.Array:
    """``block(x, tap)``; to rematerialise is to keep only x of it for its derivatives.

    What else they need is then computed again each time that a cotangent is pulled back.
    """
    if not rematerialise:
        return block(x, tap)
    names: list[str] = []

    def run(x: jax.Array) -> tuple[jax.Array, list[jax.Array]]:
        inner = tap.apart()  # a tap may keep nothing that is traced within the checkpoint
        y = block(x, inner)
        names[:] = inner.activations
        return y, list(inner.activations.values())

    y, activations = jax.checkpoint(run)(x)
    tap.activations.update(zip(names, activations, strict=True))
    return y
