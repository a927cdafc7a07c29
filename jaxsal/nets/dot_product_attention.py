"""Attention of the positions of a window to each other, after Vaswani et al. 2017.

Softmax(query · key + bias) · value, for every window and head. There are two forms:

- ``"at once"`` computes the scores of all windows and heads, and softmax of them: the right one on
  GPU and TPU;
- ``"by head"`` is for a CPU, where the scores of all windows fill memory several times over, and
  each pass over them takes longer than the products. A loop over windows and heads keeps the scores
  of one in the cache. Passes are few: the weights are left unnormalised, and their sums come out of
  the product with the values, as those of one more channel of ones. So a derivative keeps one array
  of the size of the scores in place of two, and pulling back is one multiplication of that size
  beside the products. Scores are keys × queries, and maxima are taken along the first axis, as that
  is what XLA vectorises.

Both are plain ``lax``: they can be differentiated any number of times in either mode, and batched.

Letters: B batch, W windows, P positions in a window, H heads, C channels of a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxsal.current_device import current_device
from jaxsal.nets.tracing import is_traced

Form = Literal["at once", "by head"]

_MASKED = -100.0  # Swin's; it leaves a weight of about 1e-44 relative to equal scores


def dot_product_attention(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    bias: jax.Array,
    regions: np.ndarray | None = None,
    *,
    form: Form | None = None,
) -> jax.Array:
    """Attended values (B, W, P, H, C), in the dtype of the values.

    Scores and their softmax are in float32, or in float64 where the query is.

    Args:
        query: (B, W, P, H, C), scaled.
        key: (B, W, P, H, C).
        value: (B, W, P, H, C).
        bias: (H, P, P), added to the scores: of queries along the first P, of keys along the last.
        regions: (W, P) int: 100 is taken off the scores between positions of different regions.
        form: how to compute it; by default the faster one on the current device.
    """
    form = form or fastest_form()
    if form == "by head":
        return _by_head(query, key, value, bias, regions)
    return _at_once(query, key, value, bias, regions)


def fastest_form() -> Form:
    """The faster one on the current device; of a network that is traced, the one without loops."""
    return "at once" if is_traced() or current_device().platform != "cpu" else "by head"


def _at_once(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    bias: jax.Array,
    regions: np.ndarray | None,
) -> jax.Array:
    exact = jnp.promote_types(query.dtype, jnp.float32)
    scores = jnp.einsum("bwphc,bwqhc->bwhpq", query, key, preferred_element_type=exact)
    scores = scores + bias
    weights = jax.nn.softmax(scores if regions is None else scores + _mask(regions)[:, None])
    return jnp.einsum("bwhpq,bwqhc->bwphc", weights.astype(value.dtype), value)


def _mask(regions: np.ndarray) -> jax.Array:
    """(W, P, P): what is added to the scores.

    The barrier keeps the compiler from working out this large array beforehand and storing it.
    """
    return _apart(lax.optimization_barrier(jnp.asarray(regions)))


def _apart(regions: jax.Array) -> jax.Array:
    """(…, P, P) of (…, P)."""
    return jnp.where(regions[..., :, None] != regions[..., None, :], _MASKED, 0.0)


def _by_head(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    bias: jax.Array,
    regions: np.ndarray | None,
) -> jax.Array:
    batch, windows = query.shape[:2]
    bias = bias.swapaxes(1, 2)  # keys first

    def attend_in(window: tuple[jax.Array, ...]) -> jax.Array:
        *parts, numbers = window
        heads = [part.transpose(1, 2, 0) for part in parts]  # (H, C, P)

        def attend_with(head: tuple[jax.Array, ...]) -> jax.Array:
            query, key, value, bias = head
            masks = [] if numbers is None else [_apart(numbers)]
            return attend(query, key, value, [bias, *masks])

        return lax.map(attend_with, (*heads, bias)).transpose(2, 0, 1)

    parts = [part.reshape(-1, *part.shape[2:]) for part in (query, key, value)]
    numbers = None if regions is None else jnp.tile(jnp.asarray(regions), (batch, 1))
    attended = lax.map(attend_in, (*parts, numbers))
    return attended.reshape(batch, windows, *attended.shape[1:])


def attend(
    query: jax.Array, key: jax.Array, value: jax.Array, added: Sequence[jax.Array]
) -> jax.Array:
    """Attended values (C, P) of one head.

    Args:
        query: (K, P), scaled.
        key: (K, Q).
        value: (C, Q).
        added: to the scores, one after the other, (Q, P): keys first.
    """
    exact = jnp.promote_types(query.dtype, jnp.float32)
    scores = jnp.einsum("cp,cq->qp", query, key, preferred_element_type=exact)
    for each in added:
        scores = scores + each
    weights = jnp.exp(scores - lax.stop_gradient(scores.max(0)))  # any shift cancels
    with_ones = jnp.concatenate([value, jnp.ones_like(value[:1])])
    sums = jnp.einsum(
        "qp,cq->cp", weights.astype(value.dtype), with_ones, preferred_element_type=exact
    )
    return (sums[:-1] / sums[-1]).astype(value.dtype)
