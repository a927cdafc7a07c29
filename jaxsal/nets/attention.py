"""Self-attention within windows of a 3D grid, after Liu et al. 2021 (Swin Transformer).

A grid is cut into windows; every position attends to those of its own window. Every other time the
windows are shifted by half their size, around the edges of the grid: there, a mask keeps apart what
the shift has brought together. All of it as MONAI's ``SwinUNETR`` does it.

Letters: B batch, X Y Z spatial axes, C channels, W windows, P positions in a window, H heads.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxsal.nets.dot_product_attention import dot_product_attention
from jaxsal.types import Triple

Array = TypeVar("Array", jax.Array, np.ndarray)

_INITIAL_BIAS = 0.02  # standard deviation


class WindowAttention(nnx.Module):
    """Multi-head self-attention within windows, with a learnt bias per relative position.

    Args:
        channels: of input and output.
        heads: number of heads that share them.
        window: size of a window; smaller along axes on which the grid is.
        use_bias: of query, key and value.
        rngs: for the initial weights.
    """

    def __init__(
        self, channels: int, *, heads: int, window: Triple, use_bias: bool, rngs: nnx.Rngs
    ) -> None:
        self.heads, self.window = heads, window
        self.qkv = nnx.Linear(channels, 3 * channels, use_bias=use_bias, rngs=rngs)
        self.projection = nnx.Linear(channels, channels, rngs=rngs)
        offsets = math.prod(2 * n - 1 for n in window)
        bias = _INITIAL_BIAS * jax.random.truncated_normal(rngs.params(), -2, 2, (offsets, heads))
        self.position_bias = nnx.Param(bias)

    def __call__(self, x: jax.Array, *, shifted: bool) -> jax.Array:
        """Attended values (B, X, Y, Z, C).

        Args:
            x: (B, X, Y, Z, C).
            shifted: by half a window along the axes that have more than one.
        """
        size = (x.shape[1], x.shape[2], x.shape[3])
        window, shift = fit_window(size, self.window, shifted=shifted)
        edges = [(0, -n % w) for n, w in zip(size, window, strict=True)]
        x = jnp.pad(x, [(0, 0), *edges, (0, 0)])  # padding takes part in the attention
        padded = (x.shape[1], x.shape[2], x.shape[3])
        x = jnp.roll(x, [-s for s in shift], (1, 2, 3)) if any(shift) else x
        regions = window_regions(padded, window, shift) if any(shift) else None
        attended = join_windows(self._attend(split_windows(x, window), regions), window, padded)
        attended = jnp.roll(attended, shift, (1, 2, 3)) if any(shift) else attended
        return self.projection(attended[:, : size[0], : size[1], : size[2]])

    def _attend(self, x: jax.Array, regions: np.ndarray | None) -> jax.Array:
        """(B, W, P, C) of (B, W, P, C), before the projection; regions (W, P)."""
        *outer, positions, channels = x.shape
        width = channels // self.heads
        qkv = self.qkv(x).reshape(*outer, positions, 3, self.heads, width)
        query, key, value = (qkv[..., i, :, :] for i in range(3))
        bias = self._position_bias(positions)
        attended = dot_product_attention(query * width**-0.5, key, value, bias, regions)
        return attended.reshape(*outer, positions, channels)

    def _position_bias(self, positions: int) -> jax.Array:
        """(H, P, P); of a window smaller than its full size, as the source cuts it out.

        The source takes the first rows and columns of the full window's table, so that the biases
        of a smaller window are not those of its own relative positions. Networks are trained with
        that where their deepest maps are smaller than a window.
        """
        rows = relative_positions(self.window)[:positions, :positions]
        return self.position_bias[...][rows].transpose(2, 0, 1)


def fit_window(size: Triple, window: Triple, *, shifted: bool) -> tuple[Triple, Triple]:
    """Size and shift of the windows on a grid: where one covers an axis, it is not shifted."""
    fitted = [min(n, w) for n, w in zip(size, window, strict=True)]
    shift = [w // 2 if shifted and n > w else 0 for n, w in zip(size, window, strict=True)]
    return (fitted[0], fitted[1], fitted[2]), (shift[0], shift[1], shift[2])


def split_windows(x: Array, window: Triple) -> Array:
    """(B, X, Y, Z, C) -> (B, W, P, C), sizes being multiples of the window's."""
    counts = [n // w for n, w in zip(x.shape[1:4], window, strict=True)]
    interleaved = [m for pair in zip(counts, window, strict=True) for m in pair]
    x = x.reshape(x.shape[0], *interleaved, x.shape[-1]).transpose(0, 1, 3, 5, 2, 4, 6, 7)
    return x.reshape(x.shape[0], math.prod(counts), math.prod(window), x.shape[-1])


def join_windows(x: jax.Array, window: Triple, size: Triple) -> jax.Array:
    """The inverse of `split_windows`, for a grid of this size."""
    counts = [n // w for n, w in zip(size, window, strict=True)]
    x = x.reshape(x.shape[0], *counts, *window, x.shape[-1]).transpose(0, 1, 4, 2, 5, 3, 6, 7)
    return x.reshape(x.shape[0], *size, x.shape[-1])


@lru_cache(maxsize=64)
def relative_positions(window: Triple) -> np.ndarray:
    """(P, P) int: the row of the table of biases for each pair of positions of a window."""
    positions = np.indices(window).reshape(3, -1)
    offsets = positions[:, :, None] - positions[:, None, :]
    from_zero = [o + n - 1 for o, n in zip(offsets, window, strict=True)]
    return np.ravel_multi_index(from_zero, [2 * n - 1 for n in window]).astype(np.int32)


@lru_cache(maxsize=64)
def window_regions(size: Triple, window: Triple, shift: Triple) -> np.ndarray:
    """(W, P) int: positions of a shifted grid that were neighbours before have equal numbers."""
    x, y, z = (_axis_regions(n, w, s) for n, w, s in zip(size, window, shift, strict=True))
    regions = 9 * x[:, None, None] + 3 * y[:, None] + z
    return split_windows(regions[None, ..., None], window)[0, ..., 0]


def _axis_regions(size: int, window: int, shift: int) -> np.ndarray:
    """(size,) int: 0 in all windows but the last, which the shift composes of regions 1 and 2."""
    position = np.arange(size)
    if shift == 0:
        return np.zeros(size, np.int32)
    return (position >= size - window).astype(np.int32) + (position >= size - shift)
