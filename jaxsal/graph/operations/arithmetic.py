"""Elementwise operations: arithmetic, comparisons, logic, choices between two."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxsal.errors import InputError
from jaxsal.graph.operations.table import enter, operation
from jaxsal.graph.values import Value, elementwise

UNARY: dict[str, Callable[..., Any]] = {
    "abs": jnp.abs,
    "acos": jnp.arccos,
    "asin": jnp.arcsin,
    "atan": jnp.arctan,
    "bitwise_not": jnp.invert,
    "ceil": jnp.ceil,
    "cos": jnp.cos,
    "cosh": jnp.cosh,
    "erf": jax.scipy.special.erf,
    "erfc": jax.scipy.special.erfc,
    "exp": jnp.exp,
    "exp2": jnp.exp2,
    "expm1": jnp.expm1,
    "floor": jnp.floor,
    "isfinite": jnp.isfinite,
    "isinf": jnp.isinf,
    "isnan": jnp.isnan,
    "log": jnp.log,
    "log10": jnp.log10,
    "log1p": jnp.log1p,
    "log2": jnp.log2,
    "logical_not": jnp.logical_not,
    "neg": jnp.negative,
    "reciprocal": lambda x: 1 / x,
    "round": jnp.round,
    "rsqrt": jax.lax.rsqrt,
    "sign": jnp.sign,
    "sin": jnp.sin,
    "sinh": jnp.sinh,
    "sqrt": jnp.sqrt,
    "square": jnp.square,
    "tan": jnp.tan,
    "tanh": jnp.tanh,
    "trunc": jnp.trunc,
}

BINARY: dict[str, Callable[..., Any]] = {
    "atan2": jnp.arctan2,
    "bitwise_and.Tensor": jnp.bitwise_and,
    "bitwise_and.Scalar": jnp.bitwise_and,
    "bitwise_or.Tensor": jnp.bitwise_or,
    "bitwise_or.Scalar": jnp.bitwise_or,
    "bitwise_xor.Tensor": jnp.bitwise_xor,
    "bitwise_xor.Scalar": jnp.bitwise_xor,
    "div.Tensor": jnp.true_divide,
    "div.Scalar": jnp.true_divide,
    "true_divide.Tensor": jnp.true_divide,
    "floor_divide": jnp.floor_divide,
    "floor_divide.Scalar": jnp.floor_divide,
    "fmod.Tensor": jnp.fmod,
    "fmod.Scalar": jnp.fmod,
    "logical_and": jnp.logical_and,
    "logical_or": jnp.logical_or,
    "logical_xor": jnp.logical_xor,
    "max.other": jnp.maximum,
    "maximum": jnp.maximum,
    "min.other": jnp.minimum,
    "minimum": jnp.minimum,
    "mul.Tensor": jnp.multiply,
    "mul.Scalar": jnp.multiply,
    "multiply.Tensor": jnp.multiply,
    "remainder.Tensor": jnp.remainder,
    "remainder.Scalar": jnp.remainder,
}
COMPARISONS = ("eq", "ne", "lt", "le", "gt", "ge")


def _enter_unary(name: str, function: Callable[..., Any]) -> None:
    @operation(name)
    def apply(self: Value) -> Value:
        return elementwise(function, self)


def _enter_binary(name: str, function: Callable[..., Any]) -> None:
    @operation(name)
    def apply(self: Value, other: Any) -> Value:
        return elementwise(function, self, other)


for _name, _function in UNARY.items():
    _enter_unary(_name, _function)
for _name, _function in BINARY.items():
    _enter_binary(_name, _function)
for _name in COMPARISONS:
    _enter_binary(f"{_name}.Tensor", getattr(operator, _name))
    _enter_binary(f"{_name}.Scalar", getattr(operator, _name))


@operation("add.Tensor", "add.Scalar")
def add(self: Value, other: Any, alpha: float = 1) -> Value:
    """``self + alpha other``."""
    return elementwise(lambda a, b: a + _scaled(b, alpha), self, other)


@operation("sub.Tensor", "sub.Scalar")
def subtract(self: Value, other: Any, alpha: float = 1) -> Value:
    """``self - alpha other``."""
    return elementwise(lambda a, b: a - _scaled(b, alpha), self, other)


@operation("rsub.Tensor", "rsub.Scalar")
def subtract_from(self: Value, other: Any, alpha: float = 1) -> Value:
    """``other - alpha self``."""
    return elementwise(lambda a, b: b - _scaled(a, alpha), self, other)


def _scaled(x: Any, factor: float) -> Any:
    return x if factor == 1 else factor * x


@operation("div.Tensor_mode", "div.Scalar_mode")
def divide_rounding(self: Value, other: Any, rounding_mode: str | None) -> Value:
    """Division whose result is rounded down, towards zero, or not at all."""
    rounded = {
        None: jnp.true_divide,
        "floor": jnp.floor_divide,
        "trunc": lambda a, b: jnp.trunc(a / b).astype(jnp.result_type(a, b)),
    }
    return elementwise(rounded[rounding_mode], self, other)


@operation("pow.Tensor_Scalar")
def power(self: Value, exponent: float) -> Value:
    """``self ** exponent``; whole exponents by multiplication, right for negative bases too."""
    whole = float(exponent).is_integer()
    return elementwise(lambda x: x ** (int(exponent) if whole else exponent), self)


@operation("pow.Tensor_Tensor", "pow.Scalar")
def power_of_tensor(self: Any, exponent: Value) -> Value:
    """``self ** exponent``."""
    return elementwise(jnp.power, self, exponent)


@operation("clamp", "clamp.Tensor", "clip", "clip.Tensor")
def clamp(self: Value, min: Any = None, max: Any = None) -> Value:
    """Into bounds; the slope is one on a bound too, as in PyTorch."""
    below = self if min is None else elementwise(_at_least, self, min)
    return below if max is None else elementwise(_at_most, below, max)


@operation("clamp_min", "clamp_min.Tensor")
def clamp_min(self: Value, min: Any) -> Value:
    """At least so much."""
    return elementwise(_at_least, self, min)


@operation("clamp_max", "clamp_max.Tensor")
def clamp_max(self: Value, max: Any) -> Value:
    """At most so much."""
    return elementwise(_at_most, self, max)


def _at_least(x: jax.Array, bound: Any) -> jax.Array:
    return jnp.where(x < bound, bound, x)


def _at_most(x: jax.Array, bound: Any) -> jax.Array:
    return jnp.where(x > bound, bound, x)


@operation("lerp.Scalar", "lerp.Tensor")
def lerp(self: Value, end: Value, weight: Any) -> Value:
    """``self + weight (end - self)``."""
    return elementwise(lambda a, b, w: a + w * (b - a), self, end, weight)


@operation("addcmul")
def addcmul(self: Value, tensor1: Value, tensor2: Value, value: float = 1) -> Value:
    """``self + value tensor1 tensor2``."""
    return elementwise(lambda a, b, c: a + value * b * c, self, tensor1, tensor2)


@operation("addcdiv")
def addcdiv(self: Value, tensor1: Value, tensor2: Value, value: float = 1) -> Value:
    """``self + value tensor1 / tensor2``."""
    return elementwise(lambda a, b, c: a + value * b / c, self, tensor1, tensor2)


@operation("where.self", "where.ScalarSelf", "where.ScalarOther", "where.Scalar")
def where(condition: Value, self: Any, other: Any) -> Value:
    """One where the condition holds, the other elsewhere."""
    zero = [operand for operand in (self, other) if isinstance(operand, Value)]
    if not zero:
        return elementwise(lambda c: jnp.where(c, self, other), condition)
    kind = jnp.result_type(*(v.dtype if isinstance(v, Value) else v for v in (self, other)))
    mask = Value(jnp.asarray(condition.array).astype(bool), condition.axes)
    return elementwise(
        lambda c, a, b: jnp.where(c.astype(bool), a, b).astype(kind), mask, self, other
    )


@operation("masked_fill.Scalar", "masked_fill.Tensor")
def masked_fill(self: Value, mask: Value, value: Any) -> Value:
    """A number in place of what the mask marks."""
    number = jnp.asarray(value.array if isinstance(value, Value) else value).astype(self.dtype)
    condition = Value(jnp.asarray(mask.array).astype(bool), mask.axes)
    return elementwise(lambda x, m: jnp.where(m.astype(bool), number, x), self, condition)


def _cast(value: Value, dtype: Any) -> Value:
    return value if dtype is None else value.like(jnp.asarray(value.array).astype(dtype))


@operation("to.dtype", "to.dtype_layout", "to.device", "_to_copy")
def to(self: Value, dtype: Any = None) -> Value:
    """In another type of numbers."""
    return _cast(self, dtype)


@operation("to.other", "type_as")
def to_other(self: Value, other: Value) -> Value:
    """In the type of another tensor."""
    return _cast(self, other.dtype)


def convert_element_type(a: Value, dtype: Any) -> Value:
    """In another type of numbers."""
    return _cast(a, dtype)


enter("prims.convert_element_type.default", convert_element_type)


@operation("clone", "contiguous", "alias", "lift_fresh_copy", "lift_fresh")
def same(self: Value) -> Value:
    """The tensor itself: how it lies in memory is no matter here."""
    return self


@operation("detach", "detach_copy")
def detach(self: Value) -> Value:
    """The tensor, through which no derivative passes."""
    return self.like(jax.lax.stop_gradient(self.array))


@operation("dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout")
def dropout(input: Value, p: float, train: bool) -> Value:
    """The tensor itself, as at inference.

    Raises:
        InputError: it is active.
    """
    if train and p:
        raise InputError(
            f"dropout is active (rate {p}): put the network into evaluation mode, `module.eval()`, "
            "before it is exported"
        )
    return input


@operation("native_dropout")
def native_dropout(input: Value, p: float, train: bool | None) -> tuple[Value, Value]:
    """The tensor itself, as at inference, and a mask of all that is kept."""
    kept = dropout(input, p, bool(train))
    return kept, kept.like(jnp.ones(kept.array.shape, bool))
