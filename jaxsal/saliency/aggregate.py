"""The signed maximum over a lesion's voxels v' (Spagnolo et al. 2026, Eq. 3).

At every voxel of the map it keeps the gradient of largest absolute value, with its sign. It is
associative and, with ties decided for the positive one, commutative: any order and any grouping of
gradients gives the same map, and 0 is neutral. The gradient of a sum of logits (Eqs. 1, 2) is a
single one, and so its own signed maximum.

Sums over noisy images and their standard errors are here, too (Welford 1962).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax


def signed_maximum(a: jax.Array, b: jax.Array) -> jax.Array:
    """Of two values the one of larger magnitude; of equal magnitudes the positive one.

    NaN propagates.
    """
    larger = jnp.where(jnp.abs(a) > jnp.abs(b), a, b)
    either = jnp.maximum(a, b)  # the positive one of equals, and NaN if one of them is
    return jnp.where((jnp.abs(a) == jnp.abs(b)) | jnp.isnan(either), either, larger)


def signed_maximum_at(
    maxima: jax.Array, gradients: jax.Array, at: jax.Array, first: jax.Array, stop: jax.Array
) -> jax.Array:
    """Signed maximum of a lesion's maxima and gradients ``first`` to ``stop - 1`` of a batch.

    Args:
        maxima: (N, X, Y, Z, C).
        gradients: (B, N, x, y, z, C).
        at: (B, 3) where each gradient's box begins in the maxima.
        first: of the batch's gradients.
        stop: one past the last.
    """

    def take(index: jax.Array, maxima: jax.Array) -> jax.Array:
        corner = _corner(at[index])
        current = lax.dynamic_slice(maxima, corner, gradients.shape[1:])
        return lax.dynamic_update_slice(maxima, signed_maximum(current, gradients[index]), corner)

    return lax.fori_loop(first, stop, take, maxima)


def add_at(frames: jax.Array, gradients: jax.Array, at: jax.Array) -> jax.Array:
    """Adds gradients (B, N, x, y, z, C) into frames (B, N, X, Y, Z, C), each at its own (B, 3)."""

    def add(index: jax.Array, frames: jax.Array) -> jax.Array:
        corner = (index, *_corner(at[index]))
        gradient = gradients[index][None]
        current = lax.dynamic_slice(frames, corner, gradient.shape)
        return lax.dynamic_update_slice(frames, current + gradient, corner)

    return lax.fori_loop(0, gradients.shape[0], add, frames)


def _corner(at: jax.Array) -> tuple[jax.Array, ...]:
    zero = jnp.zeros((), at.dtype)
    return zero, at[0], at[1], at[2], zero


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


@jax.jit
def standard_error(squares: jax.Array, count: int) -> jax.Array:
    """The standard error of the mean of so many values, 2 or more."""
    return jnp.sqrt(jnp.maximum(squares, 0) / (count - 1) / count)
