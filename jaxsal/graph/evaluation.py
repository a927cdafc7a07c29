"""Computes a graph: one operation after the other, from an image to logits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsal.errors import InputError
from jaxsal.graph.operations import OPERATIONS
from jaxsal.graph.operations.table import LEFT_OUT
from jaxsal.graph.program import Argument, Graph, Node, Reference
from jaxsal.graph.values import Array, Value

_SINGLE, _DOUBLE = "float32", "float64"


def evaluate(
    graph: Graph,
    parameters: Mapping[str, Array],
    image: Value,
    tap: Callable[[str, Value], Value] = lambda _, value: value,
) -> Value:
    """The logits.

    Args:
        graph: what is computed.
        parameters: as they are stored, by name.
        image: in the type of numbers that is computed in: where the program asks for float32 or
            float64, as it does in moving its tensors, that one is meant.
        tap: from the name and value of each floating-point tensor to what is used in its place.

    Raises:
        InputError: an operation cannot be computed for an image of this size.
    """
    values: dict[str, Any] = {graph.image: image}
    for parameter in graph.parameters:
        values[parameter.value] = Value(parameters[parameter.name], parameter.axes)
    for constant in graph.constants:
        values[constant.value] = Value.of(_canonical(constant.array))
    for node in graph.nodes:
        for name, result in zip(node.results, _results(node, values, image), strict=True):
            values[name] = tap(name, result) if isinstance(result, Value) else result
    return values[graph.logits]


def _results(node: Node, values: Mapping[str, Any], image: Value) -> list[Any]:
    arguments = {
        name: _type(argument, image) if name == "dtype" else _resolved(argument, values)
        for name, argument in node.arguments
        if name not in LEFT_OUT
    }
    try:
        found = OPERATIONS[node.operation](**arguments)
    except InputError as error:
        raise InputError(f"{_place(node)}: {error}") from error
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{_place(node)} cannot be computed for an image of shape {list(image.shape)}: {error}"
        ) from error
    return list(found) if isinstance(found, tuple | list) else [found]


def _place(node: Node) -> str:
    return f"{node.operation} in {node.module or 'the network'}"


def _resolved(argument: Argument, values: Mapping[str, Any]) -> Any:
    if isinstance(argument, Reference):
        return values[argument.name]
    if isinstance(argument, tuple):
        return [_resolved(one, values) for one in argument]
    return argument


def _type(argument: Argument, image: Value) -> Any:
    """The type of numbers that is meant; None where none is stated."""
    if argument is None or argument in (_SINGLE, _DOUBLE):
        return argument and image.dtype
    return jax.dtypes.canonicalize_dtype(jnp.dtype(str(argument)))


def _canonical(array: np.ndarray) -> np.ndarray:
    """In a type that JAX computes in."""
    return array.astype(jax.dtypes.canonicalize_dtype(array.dtype))
