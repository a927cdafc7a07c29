"""Activation functions, with PyTorch's choice of slope where they have a kink."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxsal.graph.operations.arithmetic import _cast
from jaxsal.graph.operations.table import operation
from jaxsal.graph.values import Value, elementwise


def _hardswish(x: jax.Array) -> jax.Array:
    return x * jax.nn.relu6(x + 3) / 6


PLAIN: dict[str, Callable[[jax.Array], jax.Array]] = {
    "hardsigmoid": lambda x: jax.nn.relu6(x + 3) / 6,
    "hardswish": _hardswish,
    "log_sigmoid": jax.nn.log_sigmoid,
    "mish": jax.nn.mish,
    "relu": jax.nn.relu,
    "relu6": jax.nn.relu6,
    "selu": jax.nn.selu,
    "sigmoid": jax.nn.sigmoid,
    "silu": jax.nn.silu,
}


def _enter(name: str, function: Callable[[jax.Array], jax.Array]) -> None:
    @operation(name)
    def apply(self: Value) -> Value:
        return elementwise(function, self)


for _name, _function in PLAIN.items():
    _enter(_name, _function)


@operation("log_sigmoid_forward")
def log_sigmoid_forward(self: Value) -> tuple[Value, Value]:
    """The logarithm of the sigmoid, and what its derivative needs in PyTorch."""
    buffer = elementwise(lambda x: jnp.exp(-jnp.abs(x)), self)
    return elementwise(jax.nn.log_sigmoid, self), buffer


@operation("leaky_relu")
def leaky_relu(self: Value, negative_slope: float = 0.01) -> Value:
    """X where positive, else a slope times x."""
    return elementwise(lambda x: jnp.where(x > 0, x, negative_slope * x), self)


@operation("prelu", "_prelu_kernel")
def prelu(self: Value, weight: Value) -> Value:
    """X where positive, else a slope times x; one slope, or one per channel."""
    slope = weight
    if weight.rank == 1 and self.rank > 1:  # channels are axis 1
        slope = weight.viewed([1, -1, *[1] * (self.rank - 2)])
    return elementwise(lambda x, a: jnp.where(x > 0, x, a * x), self, slope)


@operation("elu")
def elu(self: Value, alpha: float = 1, scale: float = 1, input_scale: float = 1) -> Value:
    """``scale x`` where positive, else ``scale alpha (exp(input_scale x) - 1)``."""

    def function(x: jax.Array) -> jax.Array:
        below = jnp.where(x > 0, 0, x)  # no exponential of large numbers, whose slope overflows
        return scale * jnp.where(x > 0, x, alpha * jnp.expm1(input_scale * below))

    return elementwise(function, self)


@operation("celu")
def celu(self: Value, alpha: float = 1.0) -> Value:
    """X where positive, else ``alpha (exp(x / alpha) - 1)``."""
    return elu(self, alpha, 1, 1 / alpha)


@operation("gelu")
def gelu(self: Value, approximate: str = "none") -> Value:
    """X times the normal distribution function of x, or its approximation by tanh."""
    return elementwise(lambda x: jax.nn.gelu(x, approximate=approximate == "tanh"), self)


@operation("softplus")
def softplus(self: Value, beta: float = 1, threshold: float = 20) -> Value:
    """``log(1 + exp(beta x)) / beta``; x itself where ``beta x`` is above the threshold."""

    def function(x: jax.Array) -> jax.Array:
        return jnp.where(beta * x > threshold, x, jax.nn.softplus(beta * x) / beta)

    return elementwise(function, self)


@operation("hardtanh")
def hardtanh(self: Value, min_val: float = -1, max_val: float = 1) -> Value:
    """Into bounds, with slope zero on a bound."""

    def function(x: jax.Array) -> jax.Array:
        return jnp.where(x <= min_val, min_val, jnp.where(x >= max_val, max_val, x))

    return elementwise(function, self)


@operation("threshold")
def threshold(self: Value, threshold: float, value: float) -> Value:
    """X where above the threshold, else a number."""
    return elementwise(lambda x: jnp.where(x > threshold, x, value), self)


@operation("hardshrink")
def hardshrink(self: Value, lambd: float = 0.5) -> Value:
    """X outside of bounds, 0 within."""
    return elementwise(lambda x: jnp.where(jnp.abs(x) <= lambd, 0, x), self)


@operation("softshrink")
def softshrink(self: Value, lambd: float = 0.5) -> Value:
    """X brought closer to 0 by so much, 0 within."""
    return elementwise(
        lambda x: jnp.where(x > lambd, x - lambd, jnp.where(x < -lambd, x + lambd, 0)), self
    )


@operation("glu")
def glu(self: Value, dim: int = -1) -> Value:
    """The first half along an axis, times the sigmoid of the second."""
    first, second = jnp.split(jnp.asarray(self.array), 2, self.held(dim))
    return self.like(first * jax.nn.sigmoid(second))


@operation("softmax.int", "special_softmax")
def softmax(self: Value, dim: int, dtype: Any = None) -> Value:
    """Exponentials along an axis, divided by their sum."""
    return _along(jax.nn.softmax, _cast(self, dtype), dim)


@operation("log_softmax.int", "special_log_softmax")
def log_softmax(self: Value, dim: int, dtype: Any = None) -> Value:
    """The logarithm of `softmax`."""
    return _along(jax.nn.log_softmax, _cast(self, dtype), dim)


@operation("_softmax")
def decomposed_softmax(self: Value, dim: int, half_to_float: bool) -> Value:
    """As `softmax`."""
    return _along(jax.nn.softmax, self, dim)


@operation("_log_softmax")
def decomposed_log_softmax(self: Value, dim: int, half_to_float: bool) -> Value:
    """As `log_softmax`."""
    return _along(jax.nn.log_softmax, self, dim)


def _along(function: Callable[..., jax.Array], value: Value, dim: int) -> Value:
    """In float32 at least."""
    exact = jnp.asarray(value.array).astype(jnp.promote_types(value.dtype, jnp.float32))
    return value.like(function(exact, axis=value.held(dim)).astype(value.dtype))
