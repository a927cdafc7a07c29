"""From derivatives at a layer to a heat map: Grad-CAM++ (Eqs. 4-10) and others of its family.

All are ``ReLU(Σ_k ω^k[v] A^k[v])``; `WEIGHTINGS` holds what sets them apart, ω.

In the weights of Grad-CAM++ (Eqs. 6, 10) the factor ``exp(y')`` is one positive number per domain,
which for real lesions overflows; it is left out, so that maps are in logits: ``ω = α ReLU(g)``.

A position whose derivatives are not finite is left out of sums over positions; there the map is
NaN.

Axes: x y z of the layer, K its channels. Maps are compiled once per size of the frame that a
domain's derivatives lie in; an array may hold those of several domains, each in its own box.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from jaxsal.saliency.gradcam.alpha import Derivatives, alpha, finite_sum

if TYPE_CHECKING:
    from jaxsal.saliency.methods.gradcam import CamMethod, Denominator
    from jaxsal.types import Triple


Weights = Callable[[Derivatives, jax.Array, jax.Array, "Denominator"], jax.Array]


def _alpha_positive(
    derivatives: Derivatives, activations: jax.Array, sums: jax.Array, denominator: Denominator
) -> jax.Array:
    """The ω of Eq. 10: α ReLU(g), which is 0 where g is negative, whatever α is."""
    first = derivatives.first
    return jnp.where(first <= 0, 0, alpha(derivatives, activations, sums, denominator) * first)


def _gradient(derivatives: Derivatives, *_: object) -> jax.Array:
    return derivatives.first


def _positive_gradient(derivatives: Derivatives, *_: object) -> jax.Array:
    return jax.nn.relu(derivatives.first)


@dataclass(frozen=True)
class Weighting:
    """How a method weights the activations of a layer.

    Attributes:
        at_positions: from the arguments of `alpha` to a weight per position, (x, y, z, K).
        pooled: at which levels these are summed up over the layer, to one weight per channel.
        mean: whether that sum is divided by the number of positions.
    """

    at_positions: Weights
    pooled: tuple[str, ...] = ()
    mean: bool = False


WEIGHTINGS: Mapping[CamMethod, Weighting] = {
    "gradcam++": Weighting(_alpha_positive, pooled=("class",)),  # Eq. 10; Eq. 6
    # Selvaraju et al. 2017; of a segmentation's summed logits Vinogradova et al. 2020.
    "gradcam": Weighting(_gradient, pooled=("instance", "class"), mean=True),
    "hirescam": Weighting(_gradient),  # Draelos & Carin 2020
    "layercam": Weighting(_positive_gradient),  # Jiang et al. 2021, Eq. 5
}


def instance_map(
    derivatives: Derivatives,
    activations: jax.Array,
    sums: jax.Array,
    denominator: Denominator = "paper",
    method: CamMethod = "gradcam++",
) -> jax.Array:
    """ReLU(Σ_K ω[v] A[v]) with a weight per position: (x, y, z), for Grad-CAM++ Eq. 8.

    Arguments are those of `alpha`, and the method; the map is zero where the derivatives are.
    """
    weights = WEIGHTINGS[method].at_positions(derivatives, activations, sums, denominator)
    return jax.nn.relu(jnp.where(weights == 0, 0, weights * activations).sum(-1))  # Eq. 8


def channel_weights(
    method: CamMethod,
    derivatives: Derivatives,
    activations: jax.Array,
    sums: jax.Array,
    positions: int,
    denominator: Denominator = "paper",
) -> tuple[jax.Array, jax.Array]:
    """One weight per channel, (K,): of Grad-CAM++ at class level (Eq. 6), or of Grad-CAM.

    Arguments are those of `alpha`, the method, and the number of all positions of the layer.

    Returns:
        The weights, and where (x, y, z) something is not finite, which is left out.
    """
    weighting = WEIGHTINGS[method]
    weights = weighting.at_positions(derivatives, activations, sums, denominator)
    divisor = positions if weighting.mean else 1
    return finite_sum(weights) / divisor, ~jnp.isfinite(weights).all(-1)


@partial(jax.jit, static_argnames=("size", "method", "denominator"))
def instance_map_in(
    derivatives: Derivatives,
    activations: jax.Array,
    sums: jax.Array,
    at: jax.Array,
    size: Triple,
    method: CamMethod,
    denominator: Denominator,
) -> jax.Array:
    """The map in a frame of this size; ``at`` holds its start, and its box's start and size."""
    derivatives, activations = _in_frame(derivatives, activations, at, size)
    return instance_map(derivatives, activations, sums, denominator, method)


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
    whole = jax.nn.relu((weights * activations).sum(-1))  # Eq. 4
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

    inside = jax.tree.map(lambda values: jnp.where(own, cut(values), 0), derivatives)
    return inside, cut(activations)
