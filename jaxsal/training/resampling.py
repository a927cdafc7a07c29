"""Volumes at places between their voxels, all by gathering: quick on every device.

Letters: X Y Z spatial axes, C channels.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import jax
import jax.numpy as jnp


def interpolate(image: jax.Array, matrix: jax.Array) -> jax.Array:
    """The image (X, Y, Z, C) at the places that a transform takes its voxels to, linearly.

    Args:
        image: (X, Y, Z, C); it is mirrored about its outermost voxels.
        matrix: (3, 3), from the middle of the image.
    """
    shape = image.shape[:3]
    places = _places(matrix, shape)
    first = [jnp.floor(place) for place in places]
    shares = [place - low for place, low in zip(places, first, strict=True)]
    result = jnp.zeros_like(image)
    for corner in itertools.product((0, 1), repeat=3):
        voxels = [low.astype(jnp.int32) + step for low, step in zip(first, corner, strict=True)]
        weights = [share if step else 1 - share for share, step in zip(shares, corner, strict=True)]
        weight = weights[0] * weights[1] * weights[2]
        result += weight[..., None] * _at(image, voxels)
    return result


def nearest(values: jax.Array, matrix: jax.Array) -> jax.Array:
    """As `interpolate`, but the value of the nearest voxel; of (X, Y, Z) or (X, Y, Z, C)."""
    places = _places(matrix, values.shape[:3])
    return _at(values, [jnp.floor(place + 0.5).astype(jnp.int32) for place in places])


def _places(matrix: jax.Array, shape: Sequence[int]) -> list[jax.Array]:
    """Where each voxel is taken from, along X, Y and Z, each (X, Y, Z).

    Written out, as a matrix product may be rounded to fewer digits on a GPU.
    """
    x, y, z = (jnp.arange(n, dtype=jnp.float32) - (n - 1) / 2 for n in shape)
    return [
        row[0] * x[:, None, None] + row[1] * y[:, None] + row[2] * z + (n - 1) / 2
        for row, n in zip(matrix, shape, strict=True)
    ]


def _at(values: jax.Array, voxels: Sequence[jax.Array]) -> jax.Array:
    """Values at voxels (X, Y, Z), those beyond the edge mirrored."""
    shape = values.shape[:3]
    x, y, z = (_mirrored(index, n) for index, n in zip(voxels, shape, strict=True))
    flat = values.reshape(-1, *values.shape[3:])
    return jnp.take(flat, (x * shape[1] + y) * shape[2] + z, axis=0, mode="clip")


def _mirrored(index: jax.Array, size: int) -> jax.Array:
    """An index within 0 … size - 1, as if the outermost voxels were mirrors."""
    if size == 1:
        return jnp.zeros_like(index)
    index = jnp.abs(index) % (2 * size - 2)
    return jnp.minimum(index, 2 * size - 2 - index)
