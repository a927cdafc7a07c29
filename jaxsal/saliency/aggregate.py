"""The signed maximum over a lesion's voxels v' (Spagnolo et al. 2026, Eq. 3).

At every voxel of the map it keeps the gradient of largest absolute value, with its sign. It is
associative and, with ties decided for the positive one, commutative: any order and any grouping of
gradients gives the same map, and 0 is neutral. The gradient of a sum of logits (Eqs. 1, 2) is a
single one, and so its own signed maximum.

Sums over noisy images and their standard errors are here, too (Welford 1962).
"""

from __future__ import annotations

from typing import TypeAlias

import jax
import jax.numpy as jnp
from jax import lax

from jaxsal.settings import FEWEST_SAMPLES

Sums: TypeAlias = tuple[jax.Array, jax.Array | None]


def signed_maximum(a: jax.Array, b: jax.Array) -> jax.Array:
    """Of two values the one of larger magnitude; of equal magnitudes the positive one.

    NaN propagates.
    """
    larger = jnp.where(jnp.abs(a) > jnp.abs(b), a, b)
    either = jnp.maximum(a, b)  # the positive one of equals, and NaN if one of them is
    return jnp.where((jnp.abs(a) == jnp.abs(b)) | jnp.isnan(either), either, larger)


def welford_add(
    total: jax.Array, squares: jax.Array, value: jax.Array, before: jax.Array | int
) -> tuple[jax.Array, jax.Array]:
    """Adds a value to a sum and to the sum of squared deviations from the mean.

    Args:
        total: sum of the values so far.
        squares: sum of their squared deviations from their mean.
        value: another one, of their shape.
        before: how many there are so far.
    """
    added = total + value
    deviation = jnp.where(before > 0, value - total / jnp.maximum(before, 1), 0)
    return added, squares + deviation * (value - added / (before + 1))


def add_samples(
    sums: Sums, values: jax.Array, count: jax.Array, number: jax.Array, tolerance: float | None
) -> tuple[Sums, jax.Array]:
    """Adds values to a sum one by one, so that it does not depend on how many come at once.

    Args:
        sums: total and squares as for `welford_add`; squares None: they are not wanted.
        values: (N, …).
        count: how many of them.
        number: how many were added before; negative: these were enough, and it stays so.
        tolerance: relative standard error at which they are enough; None: they never are.

    Returns:
        The sums, and how many were added to them; negative if these are enough.
    """

    def add(index: jax.Array, state: tuple[Sums, jax.Array]) -> tuple[Sums, jax.Array]:
        (total, squares), number = state
        if squares is None:
            return (total + values[index], None), number + 1
        added = welford_add(total, squares, values[index], number)
        if tolerance is None:
            return added, number + 1
        goes_on = number >= 0
        kept = jax.tree.map(lambda new, old: jnp.where(goes_on, new, old), added, (total, squares))
        error = _relative_error(kept[0], kept[1], number + 1)
        enough = (number + 1 >= FEWEST_SAMPLES) & (error <= tolerance)
        return kept, jnp.where(goes_on, jnp.where(enough, -number - 1, number + 1), number)

    return lax.fori_loop(0, count, add, (sums, number))


def _relative_error(total: jax.Array, squares: jax.Array, count: jax.Array) -> jax.Array:
    """The largest standard error of the mean relative to its peak; 0 if that is 0."""
    peak = jnp.abs(total).max() / count
    return jnp.where(peak > 0, standard_error(squares, count).max() / peak, 0)


@jax.jit
def standard_error(squares: jax.Array, count: int) -> jax.Array:
    """The standard error of the mean of so many values, 2 or more."""
    return jnp.sqrt(jnp.maximum(squares, 0) / (count - 1) / count)
