"""How much memory a compiled program takes, estimated from its jaxpr; nothing is compiled.

XLA computes chains of pointwise functions, slices and broadcasts in one go and writes none of the
values between them to memory. What is written takes memory until it was read for the last time:

- results of convolutions, products, sums and the like; on a TPU not of a convolution that a single
  pointwise function follows;
- what such an operation reads, as a library or a kernel of its own computes it. What products read
  along different axes is written once for each, on a TPU once in all;
- what the program returns. These results are computed as soon as what they need is there, those
  that need arguments alone at the end.

The estimate is what of it is there at once at most, in the order of the jaxpr, and all results. On
GPUs and TPUs what is gone by the time at which a result is written lies where that will be.
Where the compilers agree with that, and how well, `python -m bench compile` measures.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import jax
from jax.extend.core import Literal

from jaxsal.current_device import current_device
from jaxsal.saliency.array_sizes import convolved_size, plain_size, tiled_size
from jaxsal.saliency.lending import Span, lent

_CALLS = {
    *("jit", "pjit", "closed_call", "core_call", "remat", "checkpoint", "remat2"),
    *("custom_jvp_call", "custom_vjp_call"),
}
_VIEWS = {"reshape", "squeeze", "expand_dims", "copy", "stop_gradient", "optimization_barrier"}
_CONVOLUTION, _PRODUCT = "conv_general_dilated", "dot_general"
_SCATTERS = {"scatter", "scatter-add", "scatter_add", "scatter-mul", "scatter_mul"}
_COMPUTED = _SCATTERS | {
    *(_CONVOLUTION, _PRODUCT, "reduce_sum", "reduce_max", "reduce_min", "reduce_prod", "reduce"),
    *("argmax", "argmin", "cumsum", "cumprod", "cummax", "sort", "scan", "while", "cond"),
    *("custom_call", "ffi_call"),
    *("depthwise_convolution", "transposed_depthwise_convolution", "sums_over_space"),
}


@dataclass(frozen=True)
class _Compiler:
    """What of a program a platform's compiler writes to memory.

    Attributes:
        size: bytes that an array of a shape and width in bytes takes.
        convolved: of images that a convolution reads or returns, by their axes of examples and of
            channels, too.
        reads: operations whose inputs are written for them.
        orders: whether what products read along different axes is written once for each order.
        joins: whether a convolution and the pointwise function that follows it are one.
        lends: whether memory of results that are not yet written holds other values.
        factor: by which programs take more, by comparison with what was compiled.
    """

    size: Callable[[tuple[int, ...], int], int]
    convolved: Callable[[tuple[int, ...], int, int, int], int] | None = None
    reads: frozenset[str] = frozenset({_CONVOLUTION, _PRODUCT})
    orders: bool = True
    joins: bool = False
    lends: bool = True
    factor: float = 1.0


# How well this agrees with compilers stands in bench/README.md; on a CPU it is a bound.
_COMPILERS = {
    "cpu": _Compiler(plain_size, lends=False, factor=1.5),
    "gpu": _Compiler(plain_size),
    "tpu": _Compiler(
        tiled_size, convolved_size, _Compiler.reads | _SCATTERS, orders=False, joins=True
    ),
}


def live_bytes(function: Any, *arguments: Any) -> tuple[int, int]:
    """Bytes that a program takes on the current device besides its arguments.

    Args:
        function: traceable by JAX.
        arguments: arrays, or their shapes.

    Returns:
        What it takes while it is computed, without its results, and what these take.
    """
    compiler = _compiler()
    jaxpr = jax.make_jaxpr(function)(*arguments).jaxpr
    program = _Program(jaxpr, compiler, lends=compiler.lends)
    return program.temporary, program.returned


def stored_bytes(tree: Any) -> int:
    """Bytes that the arrays of a pytree, or shapes of arrays, take on the current device."""
    size = _compiler().size
    return sum(size(tuple(each.shape), each.dtype.itemsize) for each in jax.tree.leaves(tree))


def _compiler() -> _Compiler:
    return _COMPILERS.get(current_device().platform, _COMPILERS["gpu"])


@dataclass(eq=False)
class _Operation:
    name: str
    parameters: dict[str, Any]
    inputs: list[_Value]
    outputs: list[_Value] = field(default_factory=list)
    left: _Value | None = None  # what it reads first, unless that is an argument of the program

    @property
    def inner(self) -> Iterator[Any]:
        """The jaxprs that it runs, such as a loop's body."""
        for parameter in self.parameters.values():
            for item in parameter if isinstance(parameter, tuple | list) else (parameter,):
                jaxpr = getattr(item, "jaxpr", item)
                if hasattr(jaxpr, "eqns"):
                    yield jaxpr


@dataclass(eq=False)
class _Value:
    """A result of an operation; arguments of the program have none."""

    by: _Operation
    shape: tuple[int, ...]
    width: int

    @property
    def seen_through(self) -> _Value:
        """The value that this one is another view of."""
        value = self
        while value.by.name in _VIEWS and value.by.inputs:
            value = value.by.inputs[0]
        return value


_Step = tuple[float, _Operation, set[_Value], list[_Value]]


def _spans(steps: list[_Step]) -> dict[_Value, Span]:
    spans: dict[_Value, Span] = {}
    for time, _, read, values in steps:
        spans |= {value: (spans[value][0], time) for value in read}
        spans |= dict.fromkeys(values, (time, time))
    return spans


def _put_off(steps: list[_Step]) -> Callable[[_Step], _Step]:
    """Moves to the end what reads nothing that is written and what nothing reads."""
    ever_read = set[_Value]().union(*(read for _, _, read, _ in steps))

    def put_off(step: _Step) -> _Step:
        time, operation, read, values = step
        ends = not read and ever_read.isdisjoint(values)
        return (math.inf if ends else time), operation, read, values

    return put_off


class _Program:
    def __init__(self, jaxpr: Any, compiler: _Compiler, *, lends: bool) -> None:
        self._compiler, self._lends = compiler, lends
        operations, results = _written_out(jaxpr)
        if lends:  # arguments that are returned are copied to memory that can be lent, too
            copies = [_Operation("copy_of_argument", {}, []) for _ in _passed_on(jaxpr)]
            for copy, argument in zip(copies, _passed_on(jaxpr), strict=True):
                copy.outputs = [_value(copy, argument.aval)]
                results.append(copy.outputs[0])
            operations += copies
        self._operations = _needed(operations, results)
        self._results = {value.seen_through for value in results}
        self._reads = self._readings()
        self._laid_out = self._convolved()
        self._written = self._results | set(self._reads) | set(self._computed())

    @property
    def returned(self) -> int:
        """Bytes of the results that are computed."""
        return sum(map(self._size, self._results))

    @property
    def temporary(self) -> int:
        """The largest sum of all else that is written and alive at once."""
        alive: dict[_Value, int] = {}
        largest = 0
        steps = self._steps()
        spans = _spans(steps)
        elsewhere = set(self._results)
        if self._lends:
            elsewhere |= lent(spans, {value: self._size(value) for value in spans}, self._results)
        for time, operation, _, values in steps:
            alive |= {value: self._size(value) for value in values if value not in elsewhere}
            inner = max(map(self._inner, operation.inner), default=0)
            largest = max(largest, sum(alive.values()) + inner)
            alive = {value: size for value, size in alive.items() if spans[value][1] > time}
        return int(self._compiler.factor * largest)

    def _steps(self) -> list[_Step]:
        """When it is computed, what is read and what is written, in this order."""
        read: dict[_Value, set[_Value]] = {}
        times: dict[_Value, float] = {}
        steps = []
        for position, operation in enumerate(self._operations):
            sources = set[_Value]().union(*(read[value] for value in operation.inputs))
            values = [value for value in operation.outputs if value in self._written]
            time = float(position)
            if self._results.issuperset(values) and operation.name not in _COMPUTED:
                time = max((times[value] for value in sources), default=-1) + 0.5
            if values:
                steps.append((time, operation, sources, values))
            for value in operation.outputs:
                times[value] = time
                read[value] = {value} if value in self._written else sources
        return sorted(map(_put_off(steps), steps), key=lambda step: step[0])

    def _readings(self) -> dict[_Value, set[Any]]:
        """What operations read that are not pointwise, and along which axes products do."""
        found: dict[_Value, set[Any]] = {}
        for operation in self._operations:
            if operation.name not in self._compiler.reads:
                continue
            way = (
                operation.parameters.get("dimension_numbers") if operation.name == _PRODUCT else ()
            )
            for value in operation.inputs:
                found.setdefault(value.seen_through, set()).add(way)
        return found

    def _convolved(self) -> dict[_Value, int]:
        """What the images take that convolutions read or return, as these lay them out."""
        found: dict[_Value, int] = {}
        if self._compiler.convolved is None:
            return found
        for operation in self._operations:
            if operation.name != _CONVOLUTION:
                continue
            axes = operation.parameters["dimension_numbers"]
            images = (operation.left, axes.lhs_spec), (operation.outputs[0], axes.out_spec)
            for value, spec in images:
                if value is not None:
                    size = self._compiler.convolved(value.shape, value.width, *spec[:2])
                    seen = value.seen_through
                    found[seen] = max(found.get(seen, 0), size)
        return found

    def _computed(self) -> Iterator[_Value]:
        """Results of what is not pointwise, unless they are joined with what follows."""
        followers: dict[_Value, list[str]] = {}
        for operation in self._operations:
            if operation.name not in _VIEWS:
                for value in operation.inputs:
                    followers.setdefault(value.seen_through, []).append(operation.name)
        for operation in self._operations:
            if operation.name in _COMPUTED:
                yield from (v for v in operation.outputs if not self._joined(v, followers.get(v)))

    def _joined(self, value: _Value, followers: list[str] | None) -> bool:
        if not self._compiler.joins or value.by.name != _CONVOLUTION:
            return False
        one = followers[0] if followers and len(followers) == 1 else "split"
        return one != "split" and one not in _COMPUTED

    def _size(self, value: _Value) -> int:
        orders = self._compiler.orders and value.by.name not in _COMPUTED
        copies = len(self._reads.get(value, {None})) if orders else 1
        size = self._compiler.size(value.shape, value.width)
        return copies * (
            size if value in self._results else max(size, self._laid_out.get(value, 0))
        )

    def _inner(self, jaxpr: Any) -> int:
        """Of a loop's body, say; its results lie where its arguments do."""
        inner = _Program(jaxpr, self._compiler, lends=False)
        return inner.temporary + inner.returned


def _passed_on(jaxpr: Any) -> list[Any]:
    """The arguments that a program returns as they are."""
    arguments = set(jaxpr.invars) | set(jaxpr.constvars)
    return [out for out in jaxpr.outvars if not isinstance(out, Literal) and out in arguments]


def _written_out(jaxpr: Any) -> tuple[list[_Operation], list[_Value]]:
    """All operations, those of calls too, and the values that are returned."""
    operations: list[_Operation] = []

    def add(jaxpr: Any, known: dict[Any, _Value]) -> list[_Value | None]:
        for equation in jaxpr.eqns:
            inputs = [_known(atom, known) for atom in equation.invars]
            inner = equation.params.get("jaxpr", equation.params.get("call_jaxpr"))
            if equation.primitive.name in _CALLS and inner is not None:
                called = getattr(inner, "jaxpr", inner)
                given = zip(called.invars, inputs, strict=True)
                outputs = add(called, {name: v for name, v in given if v is not None})
            else:
                present = [value for value in inputs if value is not None]
                operation = _Operation(equation.primitive.name, equation.params, present)
                operation.left = next(iter(inputs), None)
                operation.outputs = [_value(operation, v.aval) for v in equation.outvars]
                operations.append(operation)
                outputs = list(operation.outputs)
            found = zip(equation.outvars, outputs, strict=True)
            known |= {name: value for name, value in found if value is not None}
        return [_known(atom, known) for atom in jaxpr.outvars]

    returned = add(jaxpr, {})
    return operations, [value for value in returned if value is not None]


def _known(atom: Any, known: dict[Any, _Value]) -> _Value | None:
    return None if isinstance(atom, Literal) else known.get(atom)


def _value(operation: _Operation, aval: Any) -> _Value:
    return _Value(operation, tuple(aval.shape), aval.dtype.itemsize)


def _needed(operations: list[_Operation], results: Iterable[_Value]) -> list[_Operation]:
    """Those that the results depend on, in their order."""
    wanted, found = set(results), []
    for operation in reversed(operations):
        if not wanted.isdisjoint(operation.outputs):
            wanted.update(operation.inputs)
            found.append(operation)
    return found[::-1]
