"""Running sums and their standard errors (Welford 1962)."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def add(
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


@jax.jit
def standard_error(squares: jax.Array, count: int) -> jax.Array:
    """The standard error of the mean of so many values, 2 or more."""
    return jnp.sqrt(jnp.maximum(squares, 0) / (count - 1) / count)
