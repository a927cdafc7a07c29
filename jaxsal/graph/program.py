"""The data of a network that is a graph of operations: what is computed, of which parameters.

All of it is frozen and hashable, and turns into JSON and back.
Operations have the names and argument names of PyTorch's ATen schemas; shapes and axes in their
arguments are PyTorch's, with images as (B, C, X, Y, Z).
"""

from __future__ import annotations

import base64
import binascii
import math
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Literal, Self, Union

import numpy as np

from jaxsal.errors import InputError

# Also an argument: a type of numbers, as a str ("float32"). Where a tensor lies and in which order
# (device, layout, memory_format, pin_memory) is no argument.
Argument = Union[None, bool, int, float, str, "Reference", tuple["Argument", ...]]

_CONSTANT_TYPES = ("bool", "uint8", "int8", "int16", "int32", "int64")


@dataclass(frozen=True)
class Reference:
    """The value of this name as an argument: a tensor, or a number that is known when it runs."""

    name: str


@dataclass(frozen=True)
class Node:
    """One operation.

    Attributes:
        operation: PyTorch's name, such as "aten.conv3d.default" or "operator.floordiv".
        arguments: by the names of the operation's schema; those left out have its defaults.
        results: names of the values that it computes.
        module: dotted path of the PyTorch module that it belongs to; "" for the root.
    """

    operation: str
    arguments: tuple[tuple[str, Argument], ...]
    results: tuple[str, ...]
    module: str

    def to_json(self) -> dict[str, Any]:
        """As `from_json` reads it."""
        arguments = {name: _argument_as_json(value) for name, value in self.arguments}
        return {
            "operation": self.operation,
            "arguments": arguments,
            "results": list(self.results),
            "module": self.module,
        }

    @classmethod
    def from_json(cls, record: Any) -> Self:
        """The inverse of `to_json`.

        Raises:
            InputError: a field is unknown, missing or of another kind.
        """
        taken = _Fields(cls, record)
        operation = taken("operation", _text)
        where = f"argument of {operation}"
        arguments = taken("arguments", _mapping)
        return cls(
            operation,
            tuple((name, _argument(f"{name}, {where}", v)) for name, v in arguments.items()),
            taken("results", _texts),
            taken("module", _text),
        )


@dataclass(frozen=True)
class Parameter:
    """A tensor of floating-point numbers that belongs to the network.

    Attributes:
        name: PyTorch's, such as "model.0.conv.weight".
        value: its name in the graph.
        shape: as it is stored.
        axes: axis i as stored is PyTorch's axis ``axes[i]``. Kernels of convolutions are stored as
            `jaxsal.nets.convolution` takes them, (kx, ky, kz, C, K).
        learnt: or else a statistic that was measured in training.
    """

    name: str
    value: str
    shape: tuple[int, ...]
    axes: tuple[int, ...]
    learnt: bool

    def __post_init__(self) -> None:
        if len(self.shape) != len(self.axes) or sorted(self.axes) != list(range(len(self.axes))):
            raise InputError(
                f"axes of the parameter {self.name} must name each of its {len(self.shape)} axes "
                f"once, got {list(self.axes)}"
            )

    def to_json(self) -> dict[str, Any]:
        """As `from_json` reads it."""
        return {
            "name": self.name,
            "value": self.value,
            "shape": list(self.shape),
            "axes": list(self.axes),
            "learnt": self.learnt,
        }

    @classmethod
    def from_json(cls, record: Any) -> Self:
        """The inverse of `to_json`.

        Raises:
            InputError: a field is unknown, missing or of another kind.
        """
        taken = _Fields(cls, record)
        return cls(
            taken("name", _text),
            taken("value", _text),
            taken("shape", _counts),
            taken("axes", _counts),
            taken("learnt", _flag),
        )


@dataclass(frozen=True)
class Constant:
    """A tensor of whole numbers or truth values: positions, masks.

    It is part of the graph, not a parameter: parameters are rounded to the precision that a network
    computes in, and whole numbers would not survive that.

    Attributes:
        value: its name in the graph.
        dtype: of its numbers, as NumPy names it.
        shape: PyTorch's.
        data: its bytes, little-endian, compressed by zlib, in base 64.
    """

    value: str
    dtype: str
    shape: tuple[int, ...]
    data: str

    @classmethod
    def of(cls, value: str, array: np.ndarray) -> Self:
        """The constant that holds this array.

        Raises:
            InputError: its numbers are of another kind.
        """
        dtype = array.dtype.name
        if dtype not in _CONSTANT_TYPES:
            raise InputError(f"{value} must be of whole numbers or truth values, got {dtype}")
        raw = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<")).tobytes()
        return cls(value, dtype, array.shape, base64.b64encode(zlib.compress(raw, 9)).decode())

    @cached_property
    def array(self) -> np.ndarray:
        """Its numbers, read-only.

        Raises:
            InputError: the data are damaged.
        """
        dtype = np.dtype(self.dtype).newbyteorder("<")
        size = math.prod(self.shape) * dtype.itemsize
        reader = zlib.decompressobj()
        try:
            raw = reader.decompress(base64.b64decode(self.data, validate=True), size + 1)
        except (binascii.Error, zlib.error) as error:
            raise InputError(f"the data of {self.value} are damaged: {error}") from error
        if len(raw) != size:
            raise InputError(f"the data of {self.value} must be {size} bytes for its shape")
        array = np.frombuffer(raw, dtype).reshape(self.shape).astype(self.dtype)
        array.flags.writeable = False
        return array

    def to_json(self) -> dict[str, Any]:
        """As `from_json` reads it."""
        return {
            "value": self.value,
            "dtype": self.dtype,
            "shape": list(self.shape),
            "data": self.data,
        }

    @classmethod
    def from_json(cls, record: Any) -> Self:
        """The inverse of `to_json`.

        Raises:
            InputError: a field is unknown, missing, of another kind, or damaged.
        """
        taken = _Fields(cls, record)
        constant = cls(
            taken("value", _text),
            taken("dtype", _one_of(*_CONSTANT_TYPES)),
            taken("shape", _counts),
            taken("data", _text),
        )
        _ = constant.array  # raises if it is damaged
        return constant


@dataclass(frozen=True)
class Graph:
    """A network: from an image to logits.

    Attributes:
        nodes: in an order in which they can be computed.
        parameters: tensors that belong to the network.
        constants: whole numbers and truth values that belong to it.
        image: name of the value that is given: (B, C, X, Y, Z), or (B, C, X, Y) of rank 2.
        logits: name of the value that is computed: (B, K, X, Y, Z), or (B, K, X, Y).
        size: per spatial axis, the only size of an image, or None where it is free.
        divisor: per spatial axis, what the size must be a multiple of.
        channels_in: C.
        channels_out: K.
        batch: "any" if the graph computes each example of a batch by itself; "one" if it takes one
            example only.
        rank: number of spatial axes, 3 or 2.
        slice_axis: of rank 2, the axis of a volume along which the slices follow each other.
    """

    nodes: tuple[Node, ...]
    parameters: tuple[Parameter, ...]
    constants: tuple[Constant, ...]
    image: str
    logits: str
    size: tuple[int | None, ...]
    divisor: tuple[int, ...]
    channels_in: int
    channels_out: int
    batch: Literal["any", "one"] = "any"
    rank: Literal[2, 3] = 3
    slice_axis: Literal[0, 1, 2] = 2

    def __post_init__(self) -> None:
        if not len(self.size) == len(self.divisor) == self.rank:
            raise InputError(
                f"size and divisor must have one entry for each of {self.rank} spatial axes, got "
                f"{list(self.size)} and {list(self.divisor)}"
            )
        _check_names(self)

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        """Kept, as networks are looked up by it at every call."""
        return hash(tuple(getattr(self, field.name) for field in fields(self)))

    def to_json(self) -> dict[str, Any]:
        """As `from_json` reads it."""
        return {
            "nodes": [node.to_json() for node in self.nodes],
            "parameters": [parameter.to_json() for parameter in self.parameters],
            "constants": [constant.to_json() for constant in self.constants],
            "image": self.image,
            "logits": self.logits,
            "size": list(self.size),
            "divisor": list(self.divisor),
            "channels_in": self.channels_in,
            "channels_out": self.channels_out,
            "batch": self.batch,
            "rank": self.rank,
            "slice_axis": self.slice_axis,
        }

    @classmethod
    def from_json(cls, record: Any) -> Self:
        """The inverse of `to_json`.

        Raises:
            InputError: a field is unknown, missing or of another kind, or a value is used that
                nothing has computed.
        """
        taken = _Fields(cls, record)
        return cls(
            nodes=tuple(map(Node.from_json, taken("nodes", _list))),
            parameters=tuple(map(Parameter.from_json, taken("parameters", _list))),
            constants=tuple(map(Constant.from_json, taken("constants", _list))),
            image=taken("image", _text),
            logits=taken("logits", _text),
            size=taken("size", _sizes),
            divisor=taken("divisor", _positives),
            channels_in=taken("channels_in", _positive),
            channels_out=taken("channels_out", _positive),
            batch=taken("batch", _one_of("any", "one")),
            rank=taken("rank", _one_of(2, 3)),
            slice_axis=taken("slice_axis", _one_of(0, 1, 2)),
        )


def _check_names(graph: Graph) -> None:
    """Raises InputError unless every value is computed once, and before it is used."""
    given = [graph.image, *(p.value for p in graph.parameters), *(c.value for c in graph.constants)]
    known = set(given)
    if len(known) < len(given):
        raise InputError("image, parameters and constants must have values of different names")
    for node in graph.nodes:
        missing = sorted(references(tuple(value for _, value in node.arguments)) - known)
        if missing:
            raise InputError(f"{node.operation} uses {', '.join(missing)} before it is computed")
        twice = sorted(known & set(node.results))
        if twice:
            raise InputError(f"{node.operation} computes {', '.join(twice)} a second time")
        known |= set(node.results)
    if graph.logits not in known:
        raise InputError(f"nothing computes the logits, {graph.logits}")


def references(argument: Argument) -> set[str]:
    """Names of all values in an argument."""
    if isinstance(argument, Reference):
        return {argument.name}
    if isinstance(argument, tuple):
        return set().union(*map(references, argument))
    return set()


def _argument_as_json(argument: Argument) -> Any:
    """Values as {"value": name}; numbers that JSON does not have as {"number": "inf"}."""
    if isinstance(argument, Reference):
        return {"value": argument.name}
    if isinstance(argument, tuple):
        return list(map(_argument_as_json, argument))
    if isinstance(argument, float) and not math.isfinite(argument):
        return {"number": str(argument)}
    return argument


def _argument(name: str, value: Any) -> Argument:
    if isinstance(value, list):
        return tuple(_argument(name, entry) for entry in value)
    if isinstance(value, dict):
        ((key, entry),) = value.items() if len(value) == 1 else ((None, None),)
        if key == "value" and isinstance(entry, str):
            return Reference(entry)
        if key == "number" and entry in ("inf", "-inf", "nan"):
            return float(entry)
    elif value is None or isinstance(value, bool | int | float | str):
        return value
    raise InputError(f"{name}, is none: got {value!r}")


class _Fields:
    """Takes the fields of a dataclass from JSON, each checked.

    Raises:
        InputError: the record is no mapping, or has too few or too many fields.
    """

    def __init__(self, cls: type, record: Any) -> None:
        self._what, self._record = cls.__name__.lower(), record
        names = {field.name for field in fields(cls)}
        if not isinstance(record, Mapping):
            raise InputError(f"a {self._what} must be a mapping of fields, got {record!r}")
        wrong = {"missing": sorted(names - set(record)), "unknown": sorted(set(record) - names)}
        if any(wrong.values()):
            stated = "; ".join(
                f"{key}: {', '.join(found)}" for key, found in wrong.items() if found
            )
            raise InputError(f"a {self._what} has the fields {', '.join(sorted(names))}; {stated}")

    def __call__(self, name: str, check: Callable[[Any], Any]) -> Any:
        try:
            return check(self._record[name])
        except _Unfit as unfit:
            received = repr(self._record[name])[:200]
            raise InputError(f"{name} of a {self._what} must be {unfit}, got {received}") from None


class _Unfit(Exception):  # noqa: N818 - it is no error of the user's until it is said of what
    """What a field must be."""


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise _Unfit("a text")
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise _Unfit("true or false")
    return value


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise _Unfit("a list")
    return value


def _mapping(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _Unfit("a mapping")
    return value


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(map(_text, _list(value)))


def _count(value: Any, least: int = 0) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise _Unfit(f"whole, and at least {least}")
    return value


def _positive(value: Any) -> int:
    return _count(value, 1)


def _counts(value: Any) -> tuple[int, ...]:
    return tuple(map(_count, _list(value)))


def _positives(value: Any) -> tuple[int, ...]:
    return tuple(map(_positive, _list(value)))


def _sizes(value: Any) -> tuple[int | None, ...]:
    return tuple(None if size is None else _positive(size) for size in _list(value))


def _one_of(*known: Any) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        if isinstance(value, bool) or value not in known:
            raise _Unfit("one of " + ", ".join(map(str, known)))
        return value

    return check
