"""Arithmetic of sizes: numbers that are known when the shapes of the image are."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

from jaxsal.graph.operations.table import enter, operation
from jaxsal.graph.values import Value

OF_TWO = (
    "add",
    "sub",
    "mul",
    "floordiv",
    "truediv",
    "mod",
    "pow",
    "eq",
    "ne",
    "lt",
    "le",
    "gt",
    "ge",
    "and_",
    "or_",
)


@operation("sym_size.int")
def size(self: Value, dim: int) -> int:
    """Along one axis."""
    return self.shape[dim]


@operation("sym_numel")
def number_of_elements(self: Value) -> int:
    """The product of all sizes."""
    return math.prod(self.shape)


def _enter_of_two(name: str) -> None:
    function = getattr(operator, name)

    def apply(a: Any, b: Any) -> Any:
        return function(a, b)

    enter(f"operator.{name}", apply)


def _enter_of_one(name: str, argument: str, function: Callable[[Any], Any]) -> None:
    def apply(**arguments: Any) -> Any:
        return function(arguments[argument])

    enter(name, apply)


for _name in OF_TWO:
    _enter_of_two(_name)
_enter_of_one("operator.neg", "a", operator.neg)
_enter_of_one("math.ceil", "x", math.ceil)
_enter_of_one("math.floor", "x", math.floor)
_enter_of_one("math.trunc", "x", math.trunc)
_enter_of_one("torch.sym_float", "a", float)
_enter_of_one("torch.sym_int", "a", int)
_enter_of_one("torch.sym_not", "a", operator.not_)
enter("torch.sym_max", lambda a, b: max(a, b))
enter("torch.sym_min", lambda a, b: min(a, b))
