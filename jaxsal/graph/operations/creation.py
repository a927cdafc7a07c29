"""New tensors, of one number or of counted numbers.

Those that are filled are kept from the compiler's eyes: it would work out all that follows from
them beforehand, such as the masks of shifted windows, and store that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax import lax

from jaxsal.graph.operations.table import operation
from jaxsal.graph.values import Value


def _filled(shape: Sequence[int], number: Any, dtype: Any) -> Value:
    """Without a type, the number takes that of what it meets."""
    array = jnp.full(tuple(shape), number, dtype)
    return Value.of(lax.optimization_barrier(array) if array.ndim else array)


def _like(value: Value, number: Any, dtype: Any) -> Value:
    array = jnp.full(value.array.shape, number, value.dtype if dtype is None else dtype)
    return value.like(lax.optimization_barrier(array))


@operation("full")
def full(size: Sequence[int], fill_value: Any, dtype: Any = None) -> Value:
    """One number everywhere."""
    return _filled(size, fill_value, dtype)


@operation("zeros", "empty.memory_format")
def zeros(size: Sequence[int], dtype: Any = None) -> Value:
    """Zeros."""
    return _filled(size, 0.0, dtype)


@operation("ones")
def ones(size: Sequence[int], dtype: Any = None) -> Value:
    """Ones."""
    return _filled(size, 1.0, dtype)


@operation("full_like")
def full_like(self: Value, fill_value: Any, dtype: Any = None) -> Value:
    """One number everywhere, in the shape of a tensor."""
    return _like(self, fill_value, dtype)


@operation("zeros_like", "empty_like")
def zeros_like(self: Value, dtype: Any = None) -> Value:
    """Zeros, in the shape of a tensor."""
    return _like(self, 0, dtype)


@operation("ones_like")
def ones_like(self: Value, dtype: Any = None) -> Value:
    """Ones, in the shape of a tensor."""
    return _like(self, 1, dtype)


@operation("new_full")
def new_full(self: Value, size: Sequence[int], fill_value: Any, dtype: Any = None) -> Value:
    """One number everywhere, in the type of a tensor."""
    return _filled(size, fill_value, self.dtype if dtype is None else dtype)


@operation("new_zeros", "new_empty")
def new_zeros(self: Value, size: Sequence[int], dtype: Any = None) -> Value:
    """Zeros, in the type of a tensor."""
    return new_full(self, size, 0, dtype)


@operation("new_ones")
def new_ones(self: Value, size: Sequence[int], dtype: Any = None) -> Value:
    """Ones, in the type of a tensor."""
    return new_full(self, size, 1, dtype)


@operation("fill.Scalar", "fill.Tensor")
def fill(self: Value, value: Any) -> Value:
    """One number everywhere, in the shape and type of a tensor."""
    return _like(self, value.array if isinstance(value, Value) else value, None)


@operation("scalar_tensor")
def scalar_tensor(s: Any, dtype: Any = None) -> Value:
    """One number."""
    return _filled((), s, dtype)


@operation("arange")
def arange(end: Any, dtype: Any = None) -> Value:
    """0, 1, … below an end."""
    return arange_step(0, end, 1, dtype)


@operation("arange.start")
def arange_start(start: Any, end: Any, dtype: Any = None) -> Value:
    """Counted from a start."""
    return arange_step(start, end, 1, dtype)


@operation("arange.start_step")
def arange_step(start: Any, end: Any, step: Any = 1, dtype: Any = None) -> Value:
    """Counted from a start, in steps."""
    return Value.of(jnp.arange(start, end, step, dtype))


@operation("linspace")
def linspace(start: Any, end: Any, steps: int, dtype: Any = None) -> Value:
    """So many numbers at equal distances."""
    return Value.of(jnp.linspace(start, end, steps, dtype=dtype))


@operation("eye")
def eye(n: int, dtype: Any = None) -> Value:
    """Ones on the diagonal."""
    return Value.of(jnp.eye(n, dtype=dtype))


@operation("tril")
def tril(self: Value, diagonal: int = 0) -> Value:
    """Zeros above a diagonal."""
    return Value.of(jnp.tril(self.plain, diagonal))


@operation("triu")
def triu(self: Value, diagonal: int = 0) -> Value:
    """Zeros below a diagonal."""
    return Value.of(jnp.triu(self.plain, diagonal))
