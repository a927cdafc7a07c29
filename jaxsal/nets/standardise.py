"""Mean 0 and variance 1: the arithmetic of normalisation, with its derivative written out.

What automatic differentiation makes of means and squares passes over the array once for every
mean, keeps it three times and depends on an order: one mean waits for the other. Written out, the
derivative needs the result and a number per mean, and both of its means are taken in one pass.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp

from jaxsal.current_device import current_device
from jaxsal.nets.sums_over_space import Axes, spread_over_space, sums_over_space


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
    axes = tuple(sorted(axis % x.ndim for axis in axes))
    return _with_inverse(x, axes, epsilon, groups)[0]


def _means(arrays: Sequence[jax.Array], axes: Axes, groups: int | None) -> list[jax.Array]:
    """The mean of each array; that of a group is made of its channels' means, which is quick."""
    return [_of_groups(mean, groups) for mean in _means_over(arrays, axes)]


def _of_groups(mean: jax.Array, groups: int | None) -> jax.Array:
    channels = mean.shape[-1]
    if groups is None or groups == channels:
        return mean
    of_groups = mean.reshape(*mean.shape[:-1], groups, -1).mean(-1)
    return jnp.repeat(of_groups, channels // groups, -1)


def _means_over(arrays: Sequence[jax.Array], axes: Axes) -> list[jax.Array]:
    if _is_over_space_on_a_cpu(arrays[0], axes):
        count = math.prod(arrays[0].shape[axis] for axis in axes)
        return [total / count for total in sums_over_space(arrays, axes)]
    if len(axes) > 1 and current_device().platform == "cpu":
        # all at once would take four times as long
        arrays, axes = [array.mean(axes[-1], keepdims=True) for array in arrays], axes[:-1]
    return [array.mean(axes, keepdims=True) for array in arrays]


def _spread(numbers: Sequence[jax.Array], like: jax.Array, axes: Axes) -> Sequence[jax.Array]:
    """Numbers for each mean, as they go with an array."""
    if _is_over_space_on_a_cpu(like, axes):
        return spread_over_space(numbers, like, axes)
    return numbers


def _is_over_space_on_a_cpu(x: jax.Array, axes: Axes) -> bool:
    return x.ndim - 1 not in axes and current_device().platform == "cpu"


@partial(jax.custom_jvp, nondiff_argnums=(1, 2, 3))
def _with_inverse(
    x: jax.Array, axes: Axes, epsilon: float, groups: int | None
) -> tuple[jax.Array, jax.Array]:
    """The result, and ``1 / sqrt(variance + epsilon)`` of size one along the axes."""
    exact = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    centred = exact - _means([exact], axes, groups)[0]
    (variance,) = _means([jnp.square(centred)], axes, groups)
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
    mean, slope = _means([change, along * change], axes, groups)
    mean_there, slope_there = _spread([mean, slope], change, axes)
    changed = inverse * (change - mean_there - along * slope_there)
    return changed.astype(result.dtype), -jnp.square(inverse) * slope
