"""From derivatives at a layer to a heat map: Grad-CAM++ (Eqs. 4-10) and Grad-CAM.

With y' the sum of the logits of a domain and ``g, h, t`` its first three derivatives along a unit
vector of the layer, the score of Grad-CAM++ is ``Y = exp(y')`` (Chattopadhay et al. 2018), so that

    ∂²Y = exp(y') (g² + h),    ∂³Y = exp(y') (g³ + 3 g h + t).

In α (Eq. 7) the factor ``exp(y')`` cancels. In the weights (Eqs. 6, 10) it is one positive number
per domain, which for real lesions overflows; it is left out, so that maps are in logits:
``ω = α ReLU(g)``.

A position whose derivatives are not finite is left out of sums over positions; there the map is
NaN.

Axes: x y z of the layer, K its channels. Maps are compiled once per size of the frame that a
domain's derivatives lie in; an array may hold those of several domains, each in its own box.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp

if TYPE_CHECKING:
    from jaxsal.saliency.methods.gradcam import CamMethod, Denominator
    from jaxsal.types import Triple


_CANCELLED = 1e-3


class Derivatives(NamedTuple):
    """Of a domain's summed logits, along every unit vector of a layer: (x, y, z, K) each.

    Attributes:
        first: g.
        second: h, the diagonal of the Hessian; None where it is zero or not asked for.
        third: t, likewise.
    """

    first: jax.Array
    second: jax.Array | None = None
    third: jax.Array | None = None


def alpha(
    derivatives: Derivatives,
    activations: jax.Array,
    sums: jax.Array,
    denominator: Denominator = "paper",
) -> jax.Array:
    """The weights α of Eq. 7: (x, y, z, K).

    Where the two terms of the denominator cancel to less than a thousandth of their size, or both
    are zero, α is 0: what is left of them is rounding. With ``denominator="paper"`` α at a position
    depends on the derivatives at that position alone.

    Args:
        derivatives: at the positions looked at; elsewhere they are zero.
        activations: A at these positions.
        sums: (K,) sum of A over all positions of the layer, by `finite_sum`.
        denominator: "paper": 2 ∂²Y + (Σ A) ∂³Y, the third derivative at the position itself
            (Eq. 7); "monai": 2 ∂²Y + Σ (A ∂³Y), as MONAI and M3d-Cam have it.
    """
    g, h, t = derivatives
    largest = jnp.where(jnp.isfinite(g), jnp.abs(g), 0).max()
    unit = jnp.where(largest > 0, largest, 1)  # nothing below over- or underflows
    g = g / unit
    h = jnp.zeros_like(g) if h is None else h / unit / unit
    t = jnp.zeros_like(g) if t is None else t / unit / unit / unit
    second = g * g + h
    third = unit * (g * g * g + 3 * g * h + t)
    last = sums * third if denominator == "paper" else finite_sum(activations * third)
    total = 2 * second + last
    sound = jnp.abs(total) > _CANCELLED * (2 * jnp.abs(second) + jnp.abs(last))
    quotient = jnp.where(sound, second / jnp.where(sound, total, 1), 0)
    return jnp.where(jnp.isnan(total) | jnp.isnan(third), jnp.nan, quotient)


def instance_map(
    derivatives: Derivatives,
    activations: jax.Array,
    sums: jax.Array,
    denominator: Denominator = "paper",
) -> jax.Array:
    """Grad-CAM++ of an instance, ReLU(Σ_K ω[v] A[v]) with ω of Eq. 10: (x, y, z) (Eq. 8).

    Arguments are those of `alpha`; the map is zero where the derivatives are.
    """
    weights = _position_weights(derivatives, activations, sums, denominator)
    return jax.nn.relu(jnp.where(weights == 0, 0, weights * activations).sum(-1))  # Eq. 8


def channel_weights(
    method: CamMethod,
    derivatives: Derivatives,
    activations: jax.Array,
    sums: jax.Array,
    positions: int,
    denominator: Denominator = "paper",
) -> tuple[jax.Array, jax.Array]:
    """One weight per channel: of Grad-CAM++ at class level (Eq. 6), or of Grad-CAM.

    Grad-CAM (Selvaraju et al. 2017) takes the mean of g over all positions; with a segmentation's
    logits summed over a domain this is Seg-Grad-CAM (Vinogradova et al. 2020).

    Arguments are those of `alpha`, the method, and the number of all positions of the layer.
    """
    if method == "gradcam":
        weights, divisor = derivatives.first, positions
    else:
        weights, divisor = _position_weights(derivatives, activations, sums, denominator), 1
    return finite_sum(weights) / divisor, ~jnp.isfinite(weights).all(-1)


@jax.jit
def finite_sum(values: jax.Array) -> jax.Array:
    """The sum over positions, (K,), of what is finite."""
    return jnp.where(jnp.isfinite(values), values, 0).sum((0, 1, 2))


def _position_weights(
    derivatives: Derivatives, activations: jax.Array, sums: jax.Array, denominator: Denominator
) -> jax.Array:
    """The ω of Eq. 10, (x, y, z, K): α ReLU(g), which is 0 where g is negative, whatever α is."""
    first = derivatives.first
    return jnp.where(first <= 0, 0, alpha(derivatives, activations, sums, denominator) * first)


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
