"""Attention: PyTorch's own operation, and one that networks write out as two matrix products.

On a CPU it goes head by head, as in `jaxsal.nets.dot_product_attention`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxsal.errors import InputError
from jaxsal.graph.operations.products import product_of_matrices
from jaxsal.graph.operations.table import enter, operation
from jaxsal.graph.values import Value, elementwise, is_floating, view_of
from jaxsal.nets.dot_product_attention import attend, fastest_form

Shape = tuple[int, ...]

WRITTEN_OUT = "jaxsal.attention"
_FEWEST_SCORES = 64 * 64  # of a head, below which a loop costs more than it saves


@operation("scaled_dot_product_attention")
def attention(
    query: Value,
    key: Value,
    value: Value,
    attn_mask: Value | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Value:
    """``softmax(scale query key^T + mask) value``, the scores in float32 at least.

    Raises:
        InputError: its dropout is active.
    """
    if dropout_p:
        raise InputError(
            f"the attention's dropout is active (rate {dropout_p}): put the network into "
            "evaluation mode, `module.eval()`, before it is exported"
        )
    if enable_gqa:
        key, value = (_repeated_heads(x, query.shape[-3]) for x in (key, value))
    factor = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    causal = jnp.tril(jnp.ones((query.shape[-2], key.shape[-2]), bool)) if is_causal else None
    masks = [Value.of(causal)] if causal is not None else []
    masks += [attn_mask] if attn_mask is not None else []
    key = key.permuted([*range(key.rank - 2), key.rank - 1, key.rank - 2])
    return written_out(query, key, value, masks, [[]] * (len(masks) + 1), factor)


def _repeated_heads(value: Value, heads: int) -> Value:
    axis = value.held(-3)
    return value.like(jnp.repeat(jnp.asarray(value.array), heads // value.shape[-3], axis))


def written_out(
    query: Value,
    key: Value,
    value: Value,
    added: Sequence[Value],
    shapes: Sequence[Sequence[int]],
    scale: float = 1.0,
) -> Value:
    """``softmax(scale query key + added) value``, the scores in float32 at least.

    Args:
        query: (…, M, K).
        key: (…, K, N).
        value: (…, N, C).
        added: to the scores, one after the other, broadcast; where truth values, scores where they
            are false count for nothing.
        shapes: that the scores are viewed in before each is added, and before softmax; an empty one
            leaves them as they are.
        scale: of the scores.
    """
    query = query if scale == 1 else elementwise(lambda x: scale * x, query)
    seen = _shapes_by_head(query, key, value, added, shapes)
    if seen is not None:
        return _by_head(query, key, value, list(zip(added, seen[:-1], strict=True)), seen[-1])
    scores = product_of_matrices(query, key, exact=True)
    for each, shape in zip(added, shapes[:-1], strict=True):
        scores = scores.viewed(shape) if shape else scores
        scores = elementwise(_masked if each.dtype == bool else jnp.add, scores, each)
    scores = scores.viewed(shapes[-1]) if shapes[-1] else scores
    weights = scores.like(jax.nn.softmax(scores.array, scores.held(-1)).astype(query.dtype))
    return product_of_matrices(weights, value)


enter(WRITTEN_OUT, written_out)


def _masked(scores: jax.Array, mask: Any) -> jax.Array:
    return jnp.where(mask, scores, -jnp.inf)


def _shapes_by_head(
    query: Value,
    key: Value,
    value: Value,
    added: Sequence[Value],
    shapes: Sequence[Sequence[int]],
) -> list[Shape] | None:
    """The shapes in full; None if it cannot go head by head, or should not."""
    if fastest_form() != "by head" or min(query.rank, key.rank, value.rank) < 2:
        return None
    size = (query.shape[-2], key.shape[-1])
    if math.prod(size) < _FEWEST_SCORES or not all(map(is_floating, added)):
        return None
    shape: Shape = (*np.broadcast_shapes(query.shape[:-2], key.shape[:-2]), *size)
    seen = []
    for asked, each in zip(shapes, [*added, None], strict=True):
        shape = view_of(shape, asked) if asked else shape
        grown = each is not None and np.broadcast_shapes(each.shape, shape) != shape
        if shape[-2:] != size or grown:
            return None
        seen.append(shape)
    heads = shape[:-2]
    return seen if np.broadcast_shapes(heads, value.shape[:-2]) == heads else None


def _by_head(
    query: Value, key: Value, value: Value, added: Sequence[tuple[Value, Shape]], last: Shape
) -> Value:
    """As `written_out`, in loops over windows and their heads; each is added to scores of a shape.

    The last axis but two is that of heads. Windows are taken as they are held: the heads of one are
    brought to (C, P) while it is in the cache.
    """
    heads = query.shape[:-2]
    parts = [query, key, value]
    if not all(part.shape[:-2] == last[:-2] for part in parts) or not heads:
        heads = (math.prod(last[:-2]),)
        outer = np.broadcast_shapes(query.shape[:-2], key.shape[:-2])
        wide = zip(parts, (outer, outer, last[:-2]), strict=True)
        parts = [_of_heads(part, shape) for part, shape in wide]
    first = len(heads) - 1  # axis of the heads
    orders = ((0, 2, 1), (0, 1, 2), (0, 2, 1))  # head, channel, position
    windows, turns = zip(*map(partial(_windows, first), parts, orders), strict=True)
    tables = [_by_rows(one, shape) for one, shape in added]
    rows = [of.reshape(-1, heads[-1]) for _, of in tables]

    def attend_in(window: tuple[Any, ...]) -> jax.Array:
        arrays, rows = window
        turned = [array.transpose(turn) for array, turn in zip(arrays, turns, strict=True)]
        return lax.map(attend_with, (turned, rows)).transpose(2, 0, 1)

    def attend_with(head: tuple[Any, ...]) -> jax.Array:
        (query, key, value), rows = head
        return attend(
            query, key, value, [table[row] for (table, _), row in zip(tables, rows, strict=True)]
        )

    attended = lax.map(attend_in, (windows, rows))
    array = attended.reshape(*heads[:-1], *attended.shape[1:])
    found = Value(array, (*range(first), first + 1, first, first + 2))
    return found if heads == last[:-2] else found.viewed((*last[:-2], *found.shape[-2:]))


def _of_heads(part: Value, heads: Shape) -> Value:
    """With one axis for all heads."""
    wide = jnp.broadcast_to(part.plain, (*heads, *part.shape[-2:]))
    return Value.of(wide.reshape(-1, *part.shape[-2:]))


def _windows(first: int, part: Value, order: Shape) -> tuple[jax.Array, Shape]:
    """As it is held, one window after the other, and how to turn one's last three axes."""
    held = [axis - first for axis in part.axes if axis >= first]
    array = part.as_held((*range(first), *(first + axis for axis in held)))
    return array.reshape(-1, *array.shape[first:]), tuple(map(held.index, order))


def _by_rows(added: Value, shape: Shape) -> tuple[jax.Array, np.ndarray]:
    """What is added as a table, keys first, and the row of it for each head."""
    plain = added.plain
    plain = plain.reshape((1,) * (len(shape) - plain.ndim) + plain.shape).swapaxes(-1, -2)
    heads = plain.shape[:-2]
    rows = np.arange(math.prod(heads), dtype=np.int32).reshape(heads)
    return plain.reshape(-1, *plain.shape[-2:]), np.broadcast_to(rows, shape[:-2]).ravel()
