"""Arrays of blocks of cells, and convolutions between them; see `jaxsal.locality.mosaics`.

Letters: N examples, X Y Z cells or blocks, C channels; f and g factors, the cells per block and
axis. The cells of a block are ordered as those of an array, each with its channels.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxsal.types import Triple

_DIMENSIONS = ("NHWDC", "HWDIO", "NHWDC")


def to_blocks(values: jax.Array, factor: Triple) -> jax.Array:
    """(N, X, Y, Z, C), of whole blocks, to (N, X/f, Y/f, Z/f, fff C)."""
    n, *cells, channels = values.shape
    blocks = [size // f for size, f in zip(cells, factor, strict=True)]
    split = [length for pair in zip(blocks, factor, strict=True) for length in pair]
    values = values.reshape(n, *split, channels).transpose(0, 1, 3, 5, 2, 4, 6, 7)
    return values.reshape(n, *blocks, -1)


def to_cells(values: jax.Array, factor: Triple) -> jax.Array:
    """The inverse of `to_blocks`."""
    n, *blocks, inner = values.shape
    values = values.reshape(n, *blocks, *factor, inner // math.prod(factor))
    values = values.transpose(0, 1, 4, 2, 5, 3, 6, 7)
    cells = [size * f for size, f in zip(blocks, factor, strict=True)]
    return values.reshape(n, *cells, -1)


def block_kernel(kernel: jax.Array, factor: Triple, stride: Triple) -> jax.Array:
    """The kernel of `pull_back_blocks`, with zeros where cells of two blocks do not meet.

    Args:
        kernel: (kx, ky, kz, C, K) of the convolution that is pulled back.
        factor: f, of the blocks of its output.
        stride: of the convolution; g = f stride.

    Returns:
        (dx, dy, dz, fff K, ggg C).
    """
    taps = [_taps(*axis) for axis in zip(kernel.shape[:3], factor, stride, strict=True)]
    x, y, z = taps
    kernel = jnp.pad(kernel, [(0, 1)] * 3 + [(0, 0)] * 2)  # what no tap meets
    kernel = kernel[x][:, :, :, y][:, :, :, :, :, :, z]  # dx fx gx dy fy gy dz fz gz C K
    kernel = kernel.transpose(0, 3, 6, 1, 4, 7, 10, 2, 5, 8, 9)
    inputs, outputs = math.prod(kernel.shape[3:7]), math.prod(kernel.shape[7:])
    return kernel.reshape(*kernel.shape[:3], inputs, outputs)


def _taps(size: int, f: int, stride: int) -> np.ndarray:
    """(d, f, g) the tap by which two cells of two blocks meet, ``size`` where none does."""
    g = f * stride
    reach = (stride * (f - 1) + size - 1) // g
    here, below = np.arange(f)[:, None], np.arange(g)
    behind = np.arange(reach, -1, -1)[:, None, None]  # blocks from the one read to the one made
    taps = g * behind + below - stride * here
    return np.where((taps >= 0) & (taps < size), taps, size)


def pull_back_blocks(cotangent: jax.Array, kernel: jax.Array, blocks: Triple) -> jax.Array:
    """A convolution's pull-back from blocks (N, X, Y, Z, fff K) to as many of ggg C as asked for.

    Args:
        cotangent: of the convolution's output.
        kernel: from `block_kernel`.
        blocks: number of blocks of the result; its first cell is where the first tap of the
            cotangent's first cell lies.
    """
    sizes = zip(kernel.shape[:3], blocks, cotangent.shape[1:4], strict=True)
    padding = [(d - 1, made - n) for d, made, n in sizes]
    return lax.conv_general_dilated(
        cotangent, kernel, (1, 1, 1), padding, dimension_numbers=_DIMENSIONS
    )
