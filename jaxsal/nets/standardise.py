"""Mean 0 and variance 1: the arithmetic of normalisation, with its derivative written out.

What automatic differentiation makes of means and squares passes over the array once for every
mean, keeps it three times and depends on an order: one mean waits for the other. Written out, the
derivative needs the result and a number per mean, and both of its means are taken in one pass.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp

Axes = tuple[int, ...]


def standardise(x: jax.Array, axes: Axes, epsilon: float) -> jax.Array:
    """``(x - mean) / sqrt(variance + epsilon)`` over these axes, in the shape and dtype of x.

    Means are taken in float32 at least. The result can be differentiated any number of times, in
    either mode.
    """
    return _with_inverse(x, axes, epsilon)[0]


@partial(jax.custom_jvp, nondiff_argnums=(1, 2))
def _with_inverse(x: jax.Array, axes: Axes, epsilon: float) -> tuple[jax.Array, jax.Array]:
    """The result, and ``1 / sqrt(variance + epsilon)`` of size one along the axes."""
    exact = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    centred = exact - exact.mean(axes, keepdims=True)
    variance = jnp.square(centred).mean(axes, keepdims=True)
    inverse = jax.lax.rsqrt(variance + epsilon)
    return (centred * inverse).astype(x.dtype), inverse


@_with_inverse.defjvp
def _tangents(
    axes: Axes, epsilon: float, primals: tuple[jax.Array], tangents: tuple[jax.Array]
) -> tuple[tuple[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]:
    # By these functions themselves, so that derivatives of the derivative follow the same rule.
    result, inverse = _with_inverse(primals[0], axes, epsilon)
    return (result, inverse), _change(axes, result, inverse, tangents[0])


@partial(jax.checkpoint, static_argnums=0, prevent_cse=False)  # keeps a bfloat16 result as it is
def _change(
    axes: Axes, result: jax.Array, inverse: jax.Array, tangent: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """How the result and ``inverse`` change along the tangent of x."""
    along, change = result.astype(inverse.dtype), tangent.astype(inverse.dtype)
    slope = (along * change).mean(axes, keepdims=True)
    changed = inverse * (change - change.mean(axes, keepdims=True) - along * slope)
    return changed.astype(result.dtype), -jnp.square(inverse) * slope
