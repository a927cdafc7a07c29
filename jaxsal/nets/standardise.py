"""Mean 0 and variance 1: the arithmetic of normalisation, with its derivative written out.

What automatic differentiation makes of means and squares passes over the array once for every
mean, keeps it three times and depends on an order: one mean waits for the other. Written out, the
derivative needs the result and a number per mean, and both of its means are taken in one pass.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp

from jaxsal.current_device import current_device

Axes = tuple[int, ...]


def standardise(x: jax.Array, axes: Axes, epsilon: float, groups: int | None = None) -> jax.Array:
    """``(x - mean) / sqrt(variance + epsilon)`` over these axes, in the shape and dtype of x.

    Means are taken in float32 at least. The result can be differentiated any number of times, in
    either mode.

    Args:
        x: an array whose last axis is that of the channels.
        axes: over which means are taken.
        epsilon: added to the variance.
        groups: number of groups of neighbouring channels over which means are taken, too. None:
            every channel by itself, unless the channels are one of the axes.
    """
    return _with_inverse(x, axes, epsilon, groups)[0]


def _mean(x: jax.Array, axes: Axes, groups: int | None) -> jax.Array:
    """The mean for each channel; that of a group is made of its channels' means, which is quick."""
    mean = _mean_over(x, axes)
    channels = mean.shape[-1]
    if groups is None or groups == channels:
        return mean
    of_groups = mean.reshape(*mean.shape[:-1], groups, -1).mean(-1)
    return jnp.repeat(of_groups, channels // groups, -1)


def _mean_over(x: jax.Array, axes: Axes) -> jax.Array:
    """The mean; on a CPU over the last axis first: all at once takes four times as long there."""
    *others, last = sorted(axis % x.ndim for axis in axes)
    if others and current_device().platform == "cpu":
        x, axes = x.mean(last, keepdims=True), tuple(others)
    return x.mean(axes, keepdims=True)


@partial(jax.custom_jvp, nondiff_argnums=(1, 2, 3))
def _with_inverse(
    x: jax.Array, axes: Axes, epsilon: float, groups: int | None
) -> tuple[jax.Array, jax.Array]:
    """The result, and ``1 / sqrt(variance + epsilon)`` of size one along the axes."""
    exact = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    centred = exact - _mean(exact, axes, groups)
    variance = _mean(jnp.square(centred), axes, groups)
    inverse = jax.lax.rsqrt(variance + epsilon)
    return (centred * inverse).astype(x.dtype), inverse


@_with_inverse.defjvp
def _tangents(
    axes: Axes,
    epsilon: float,
    groups: int | None,
    primals: tuple[jax.Array],
    tangents: tuple[jax.Array],
) -> tuple[tuple[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]:
    # By these functions themselves, so that derivatives of the derivative follow the same rule.
    result, inverse = _with_inverse(primals[0], axes, epsilon, groups)
    return (result, inverse), _change(axes, groups, result, inverse, tangents[0])


# A checkpoint, so that of a bfloat16 result nothing but itself is kept.
@partial(jax.checkpoint, static_argnums=(0, 1), prevent_cse=False)
def _change(
    axes: Axes, groups: int | None, result: jax.Array, inverse: jax.Array, tangent: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """How the result and ``inverse`` change along the tangent of x."""
    along, change = result.astype(inverse.dtype), tangent.astype(inverse.dtype)
    slope = _mean(along * change, axes, groups)
    changed = inverse * (change - _mean(change, axes, groups) - along * slope)
    return changed.astype(result.dtype), -jnp.square(inverse) * slope
