"""The weights α of Grad-CAM++ (Eq. 7), from derivatives at a layer.

With y' the sum of the logits of a domain and ``g, h, t`` its first three derivatives along a unit
vector of the layer, the score of Grad-CAM++ is ``Y = exp(y')`` (Chattopadhay et al. 2018), so that

    ∂²Y = exp(y') (g² + h),    ∂³Y = exp(y') (g³ + 3 g h + t).

In α the factor ``exp(y')`` cancels. Axes: x y z of the layer, K its channels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp

if TYPE_CHECKING:
    from jaxsal.saliency.methods.gradcam import Denominator


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


@jax.jit
def finite_sum(values: jax.Array) -> jax.Array:
    """The sum over positions, (K,), of what is finite."""
    return jnp.where(jnp.isfinite(values), values, 0).sum((0, 1, 2))
