"""Where a voxel's box begins in an array, and the box itself."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

Tables = tuple[np.ndarray, ...]  # per axis (P,) by voxel position, or (1,) the same for all


def look_up(tables: Tables, position: jax.Array) -> list[jax.Array]:
    """Per axis the entry of a table at a position (3,), int32."""
    return [
        lax.dynamic_index_in_dim(jnp.asarray(table, jnp.int32), position[axis], keepdims=False)
        if len(table) > 1
        else jnp.int32(table[0])
        for axis, table in enumerate(tables)
    ]


def sliced(values: jax.Array, begin: Sequence[jax.Array], size: Sequence[int]) -> jax.Array:
    """The box (N, x, y, z, C) of (N, X, Y, Z, C) that begins at a cell."""
    shape = (values.shape[0], *size, values.shape[-1])
    return lax.dynamic_slice(values, (0, *begin, 0), shape)
