"""Heat maps on a layer, compiled once per size of the frame that a domain's derivatives lie in.

An array may hold derivatives of several domains: each has its own box in it.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from jaxsal.saliency.gradcam.weights import (
    Derivatives,
    channel_weights,
    instance_map,
    weighted_map,
)

if TYPE_CHECKING:
    from jaxsal.saliency.methods.gradcam import CamMethod, Denominator
    from jaxsal.types import Triple


@partial(jax.jit, static_argnames=("size", "denominator"))
def instance_map_in(
    derivatives: Derivatives,
    activations: jax.Array,
    sums: jax.Array,
    at: jax.Array,
    size: Triple,
    denominator: Denominator,
) -> jax.Array:
    """The map in a frame of this size; ``at`` holds its start, and its box's start and size."""
    derivatives, activations = _in_frame(derivatives, activations, at, size)
    return instance_map(derivatives, activations, sums, denominator)


@partial(jax.jit, static_argnames=("size", "method", "denominator"))
def pooled_map_in(
    derivatives: Derivatives,
    activations: jax.Array,
    sums: jax.Array,
    at: jax.Array,
    size: Triple,
    method: CamMethod,
    denominator: Denominator,
) -> jax.Array:
    """The map on the whole layer, from derivatives in a frame of it; ``at`` as above."""
    positions = activations[..., 0].size
    derivatives, inside = _in_frame(derivatives, activations, at, size)
    weights, left_out = channel_weights(method, derivatives, inside, sums, positions, denominator)
    whole = weighted_map(weights, activations)
    part = jax.lax.dynamic_slice(whole, at[0], size)
    return jax.lax.dynamic_update_slice(whole, jnp.where(left_out, jnp.nan, part), at[0])


def _in_frame(
    derivatives: Derivatives, activations: jax.Array, at: jax.Array, size: Triple
) -> tuple[Derivatives, jax.Array]:
    """Both cut to a frame; derivatives outside of its box belong to others and are dropped."""
    frame, first, count = at
    position = frame + jnp.stack(jnp.meshgrid(*map(jnp.arange, size), indexing="ij"), axis=-1)
    own = ((position >= first) & (position < first + count)).all(-1, keepdims=True)

    def cut(values: jax.Array) -> jax.Array:
        return jax.lax.dynamic_slice(values, (*frame, 0), (*size, values.shape[-1]))

    return jax.tree.map(lambda values: jnp.where(own, cut(values), 0), derivatives), cut(
        activations
    )
