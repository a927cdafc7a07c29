"""Sums, means, extremes and other numbers of many."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxsal.errors import InputError
from jaxsal.graph.operations.arithmetic import _cast
from jaxsal.graph.operations.table import operation
from jaxsal.graph.values import Value

Dims = Sequence[int] | int | None


def _dims(value: Value, dim: Dims) -> list[int]:
    """PyTorch's axes, counted from 0; all where none are named."""
    asked = [dim] if isinstance(dim, int) else list(dim or range(value.rank))
    return [value.logical(axis) for axis in asked if value.rank]


def _reduced(value: Value, dim: Dims, keepdim: bool, function: Callable[..., jax.Array]) -> Value:
    """A function of an array and its axes, which leaves these of size one."""
    dims = _dims(value, dim)
    held = tuple(value.held(axis) for axis in dims)
    array = function(jnp.asarray(value.array), held)
    return value.like(array) if keepdim else value.dropped(jnp.squeeze(array, held), dims)


@operation("sum", "sum.dim_IntList")
def sum_along(self: Value, dim: Dims = None, keepdim: bool = False, dtype: Any = None) -> Value:
    """The sum."""
    value = _cast(self, dtype)
    return _reduced(value, dim, keepdim, lambda x, a: x.sum(a, keepdims=True))


@operation("mean", "mean.dim")
def mean(self: Value, dim: Dims = None, keepdim: bool = False, dtype: Any = None) -> Value:
    """The mean."""
    return _reduced(_cast(self, dtype), dim, keepdim, lambda x, a: x.mean(a, keepdims=True))


@operation("amax")
def amax(self: Value, dim: Dims = (), keepdim: bool = False) -> Value:
    """The largest; its slope is shared by all that are equal."""
    return _reduced(self, dim, keepdim, lambda x, a: x.max(a, keepdims=True))


@operation("amin")
def amin(self: Value, dim: Dims = (), keepdim: bool = False) -> Value:
    """The smallest; its slope is shared by all that are equal."""
    return _reduced(self, dim, keepdim, lambda x, a: x.min(a, keepdims=True))


@operation("max")
def largest(self: Value) -> Value:
    """The largest of all."""
    return amax(self)


@operation("min")
def smallest(self: Value) -> Value:
    """The smallest of all."""
    return amin(self)


@operation("max.dim")
def max_along(self: Value, dim: int, keepdim: bool = False) -> tuple[Value, Value]:
    """The largest along an axis, and where the first of them is."""
    return _picked(self, dim, keepdim, jnp.argmax)


@operation("min.dim")
def min_along(self: Value, dim: int, keepdim: bool = False) -> tuple[Value, Value]:
    """The smallest along an axis, and where the first of them is."""
    return _picked(self, dim, keepdim, jnp.argmin)


def _picked(
    value: Value, dim: int, keepdim: bool, find: Callable[..., jax.Array]
) -> tuple[Value, Value]:
    array, axis = jnp.asarray(value.array), value.held(dim)
    places = find(array, axis, keepdims=True)
    found = jnp.take_along_axis(array, places, axis)
    if keepdim:
        return value.like(found), value.like(places)
    picked, place = (value.dropped(jnp.squeeze(x, axis), [dim]) for x in (found, places))
    return picked, place


@operation("argmax")
def argmax(self: Value, dim: int | None = None, keepdim: bool = False) -> Value:
    """Where the first of the largest is."""
    return _place(self, dim, keepdim, jnp.argmax)


@operation("argmin")
def argmin(self: Value, dim: int | None = None, keepdim: bool = False) -> Value:
    """Where the first of the smallest is."""
    return _place(self, dim, keepdim, jnp.argmin)


def _place(value: Value, dim: int | None, keepdim: bool, find: Callable[..., jax.Array]) -> Value:
    if dim is None:
        place = find(value.plain.reshape(-1))
        return Value.of(place.reshape((1,) * value.rank) if keepdim else place)
    return _reduced(value, dim, keepdim, lambda x, a: find(x, a[0], keepdims=True))


@operation("var.correction")
def variance(
    self: Value, dim: Dims = None, correction: float | None = None, keepdim: bool = False
) -> Value:
    """The mean of squares about the mean, the count less by the correction; 1 unless given."""
    less = 1 if correction is None else correction
    return _reduced(self, dim, keepdim, lambda x, a: jnp.var(x, a, correction=less, keepdims=True))


@operation("var", "var.dim")
def variance_unbiased(
    self: Value, dim: Dims = None, unbiased: bool = True, keepdim: bool = False
) -> Value:
    """The variance, the count less by one unless it shall be biased."""
    return variance(self, dim, int(unbiased), keepdim)


@operation("std.correction")
def deviation(
    self: Value, dim: Dims = None, correction: float | None = None, keepdim: bool = False
) -> Value:
    """The root of the variance."""
    found = variance(self, dim, correction, keepdim)
    return found.like(_safe_root(found.array))


@operation("std", "std.dim")
def deviation_unbiased(
    self: Value, dim: Dims = None, unbiased: bool = True, keepdim: bool = False
) -> Value:
    """The root of the variance."""
    return deviation(self, dim, int(unbiased), keepdim)


@operation("var_mean.correction")
def variance_and_mean(
    self: Value, dim: Dims = None, correction: float | None = None, keepdim: bool = False
) -> tuple[Value, Value]:
    """The variance and the mean."""
    return variance(self, dim, correction, keepdim), mean(self, dim, keepdim)


@operation("var_mean", "var_mean.dim")
def variance_unbiased_and_mean(
    self: Value, dim: Dims = None, unbiased: bool = True, keepdim: bool = False
) -> tuple[Value, Value]:
    """The variance and the mean."""
    return variance_and_mean(self, dim, int(unbiased), keepdim)


@operation("prod", "prod.dim_int")
def product(self: Value, dim: Dims = None, keepdim: bool = False, dtype: Any = None) -> Value:
    """The product."""
    return _reduced(_cast(self, dtype), dim, keepdim, lambda x, a: x.prod(a, keepdims=True))


@operation("linalg_vector_norm")
def vector_norm(
    self: Value, ord: float = 2, dim: Dims = None, keepdim: bool = False, dtype: Any = None
) -> Value:
    """The norm of this order; its slope at zero is zero."""
    order = float(ord)

    def norm(x: jax.Array, axes: tuple[int, ...]) -> jax.Array:
        size = jnp.abs(x)
        if math.isinf(order):
            return size.max(axes, keepdims=True) if order > 0 else size.min(axes, keepdims=True)
        if order == 0:
            return (x != 0).astype(x.dtype).sum(axes, keepdims=True)
        if order == 1:
            return size.sum(axes, keepdims=True)
        if order == 2:
            return _safe_root(jnp.square(x).sum(axes, keepdims=True))
        total = (size**order).sum(axes, keepdims=True)
        positive = jnp.where(total > 0, total, 1)
        return jnp.where(total > 0, positive ** (1 / order), 0)

    return _reduced(_cast(self, dtype), dim, keepdim, norm)


@operation("norm.Scalar", "norm.ScalarOpt_dim", "norm.ScalarOpt_dim_dtype")
def norm(
    self: Value,
    p: float | None = 2,
    dim: Dims = None,
    keepdim: bool = False,
    dtype: Any = None,
) -> Value:
    """As `vector_norm`."""
    return vector_norm(self, 2 if p is None else p, dim, keepdim, dtype)


@operation("linalg_norm")
def linalg_norm(
    self: Value,
    ord: float | None = None,
    dim: Dims = None,
    keepdim: bool = False,
    dtype: Any = None,
) -> Value:
    """As `vector_norm`.

    Raises:
        InputError: it is the norm of a matrix.
    """
    if ord is not None and len(_dims(self, dim)) > 1:
        raise InputError(f"linalg.norm of matrices is not known, of order {ord}; use vector_norm")
    return vector_norm(self, 2 if ord is None else ord, dim, keepdim, dtype)


def _safe_root(x: Any) -> jax.Array:
    """The square root, whose slope at zero is zero."""
    return jnp.where(x > 0, jnp.sqrt(jnp.where(x > 0, x, 1)), jnp.where(x == 0, 0, x))


@operation("cumsum")
def cumulative_sum(self: Value, dim: int, dtype: Any = None) -> Value:
    """The sum of all up to each position along an axis."""
    value = _cast(self, dtype)
    return value.like(jnp.cumsum(jnp.asarray(value.array), value.held(dim)))


@operation("cumprod")
def cumulative_product(self: Value, dim: int, dtype: Any = None) -> Value:
    """The product of all up to each position along an axis."""
    value = _cast(self, dtype)
    return value.like(jnp.cumprod(jnp.asarray(value.array), value.held(dim)))


@operation("logsumexp")
def logsumexp(self: Value, dim: Dims, keepdim: bool = False) -> Value:
    """The logarithm of the sum of exponentials."""
    return _reduced(self, dim, keepdim, lambda x, a: jax.nn.logsumexp(x, axis=a, keepdims=True))


@operation("any", "any.dim", "any.dims")
def any_along(self: Value, dim: Dims = None, keepdim: bool = False) -> Value:
    """Whether one is not zero."""
    return _reduced(self, dim, keepdim, lambda x, a: jnp.any(x, a, keepdims=True))


@operation("all", "all.dim", "all.dims")
def all_along(self: Value, dim: Dims = None, keepdim: bool = False) -> Value:
    """Whether none is zero."""
    return _reduced(self, dim, keepdim, lambda x, a: jnp.all(x, a, keepdims=True))
