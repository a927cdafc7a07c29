"""Tensors read and written at positions that other tensors hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxsal.errors import InputError
from jaxsal.graph.operations.table import operation
from jaxsal.graph.values import Value


@operation("index.Tensor", "_unsafe_index.Tensor")
def index(self: Value, indices: Sequence[Value | None]) -> Value:
    """What is at positions, by NumPy's rules of indexing with arrays."""
    used = [axis for axis, one in enumerate(indices) if one is not None]
    if len(used) == 1:
        return _taken(self, used[0], _positions(indices[used[0]]))
    return Value.of(self.plain[_places(indices)])


@operation("index_select")
def index_select(self: Value, dim: int, index: Value) -> Value:
    """What is at positions along an axis."""
    return _taken(self, dim, _positions(index).reshape(-1))


@operation("embedding")
def embedding(weight: Value, indices: Value) -> Value:
    """Rows of a table."""
    return _taken(weight, 0, _positions(indices))


def _taken(value: Value, dim: int, positions: jax.Array) -> Value:
    """The positions' axes in place of one."""
    axis, place = value.logical(dim), value.held(dim)
    array = jnp.take(jnp.asarray(value.array), positions, place, mode="wrap")
    more = positions.ndim - 1
    axes = [a + more * (a > axis) for a in value.axes]
    new = range(axis, axis + positions.ndim)
    return Value(array, (*axes[:place], *new, *axes[place + 1 :]))


@operation("gather")
def gather(self: Value, dim: int, index: Value) -> Value:
    """What is at positions along an axis, one for each place of the result."""
    axis = self.logical(dim)
    array, positions = self.plain, index.plain
    for other in set(range(self.rank)) - {axis}:  # the result may be smaller
        array = jax.lax.slice_in_dim(array, 0, positions.shape[other], axis=other)
    return Value.of(jnp.take_along_axis(array, positions, axis))


@operation("index_put", "_unsafe_index_put")
def index_put(
    self: Value, indices: Sequence[Value | None], values: Value, accumulate: bool = False
) -> Value:
    """With other numbers at positions, or with these added there."""
    at = self.plain.at[_places(indices)]
    new = values.plain.astype(self.dtype)
    return Value.of(at.add(new) if accumulate else at.set(new))


@operation("scatter.src", "scatter.value")
def scatter(self: Value, dim: int, index: Value, src: Any = None, value: Any = None) -> Value:
    """With other numbers at positions along an axis."""
    new = jnp.asarray(value, self.dtype) if src is None else src.plain
    return Value.of(_written(self, dim, index, new).set(_fitting(new, index)))


@operation("scatter_add")
def scatter_add(self: Value, dim: int, index: Value, src: Value) -> Value:
    """With numbers added at positions along an axis."""
    return Value.of(_written(self, dim, index, src.plain).add(_fitting(src.plain, index)))


def _written(value: Value, dim: int, index: Value, new: jax.Array) -> Any:
    positions = index.plain
    places = list(jnp.meshgrid(*map(jnp.arange, positions.shape), indexing="ij", sparse=True))
    places[value.logical(dim)] = positions
    return value.plain.at[tuple(places)]


def _fitting(new: jax.Array, index: Value) -> jax.Array:
    return new if new.ndim == 0 else new[tuple(slice(0, n) for n in index.shape)]


def _places(indices: Sequence[Value | None]) -> tuple[Any, ...]:
    return tuple(slice(None) if one is None else _positions(one) for one in indices)


def _positions(value: Value | None) -> jax.Array:
    """As an array of whole numbers.

    Raises:
        InputError: it is a mask, whose number of positions is unknown before it is computed.
    """
    assert value is not None
    if value.dtype == bool:
        raise InputError(
            "a tensor is indexed by a mask, so that shapes depend on the image's numbers: rewrite "
            "it with torch.where"
        )
    return value.plain
