"""What a network consists of, read off its jaxpr.

`structure_of` traces a function from images to logits and returns the graph of the convolutions,
joins of channels and sums that it is made of; between them lie pointwise functions, of which only
the slope at an image matters. A function that contains anything else that depends on the image
(a norm over positions, attention, reshaping) has no such structure: None.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, Var

from jaxsal.nets.tracing import as_traced
from jaxsal.shapes import Shapes
from jaxsal.types import LogitFunction, Triple

CHANNELS_LAST = (0, 4, 1, 2, 3)  # batch, channels, spatial axes: where each is
_SHIFTS = {"add", "sub", "convert_element_type", "copy"}  # their slope is one
_POINTWISE = _SHIFTS | {
    *("mul", "div", "neg", "max", "min", "abs", "sign", "square", "integer_pow", "pow", "clamp"),
    *("exp", "exp2", "expm1", "log", "log1p", "sqrt", "rsqrt", "tanh", "logistic", "erf", "erfc"),
    *("sin", "cos", "atan2", "select_n", "gt", "ge", "lt", "le", "eq", "ne", "and", "or", "not"),
    *("is_finite", "stop_gradient"),
}
_WRAPPERS = {"jit", "pjit", "closed_call", "core_call", "remat", "checkpoint", "remat2"}


@dataclass(frozen=True)
class Source:
    """What a node reads: another node's value, through a pointwise function.

    Attributes:
        node: index of that node.
        pointwise: index into `Structure.pointwise`; None if the slope is one everywhere.
    """

    node: int
    pointwise: int | None


@dataclass(frozen=True)
class Kernel:
    """A convolution as in `jaxsal.nets.convolution`, or the transpose of one.

    Attributes:
        variable: the kernel in the jaxpr, in the layout of ``axes``.
        axes: the permutation that makes it (kx, ky, kz, inputs, outputs) of the traced operation.
        size: per spatial axis.
        stride: per spatial axis; of a transposed one the up-sampling factor.
        padding: per spatial axis; of a transposed one that of the convolution it transposes.
        extra: output padding of a transposed one.
        transposed: whether it is one.
        precision: of its products, a name of `jax.default_matmul_precision` or None.
    """

    variable: Any
    axes: tuple[int, ...]
    size: Triple
    stride: Triple
    padding: Triple
    extra: Triple
    transposed: bool
    precision: str | None

    def oriented(self, value: jax.Array) -> jax.Array:
        """The kernel as `convolution` or `transposed_convolution` takes it."""
        kernel = value.transpose(self.axes)
        return kernel[::-1, ::-1, ::-1].swapaxes(3, 4) if self.transposed else kernel

    def multiplied(self) -> contextlib.AbstractContextManager[None]:
        """Within the block products have the precision that was traced."""
        if self.precision is None:
            return contextlib.nullcontext()
        return jax.default_matmul_precision(self.precision)


@dataclass(frozen=True)
class Node:
    """The image, a convolution, a join of channels or a sum.

    Attributes:
        variable: its value in the jaxpr.
        grid: spatial size.
        dtype: of its value.
        sources: what it reads; none for the image.
        kernel: of a convolution.
        joins: number of channels of each source, if these are joined.
        signs: of each source in a sum.
    """

    variable: Var
    grid: Triple
    dtype: Any
    sources: tuple[Source, ...] = ()
    kernel: Kernel | None = None
    joins: tuple[int, ...] = ()
    signs: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class Structure:
    """The graph of a local network; two are equal only if they are the same object.

    Attributes:
        jaxpr: what was traced, flat, from parameters' leaves and images to logits.
        nodes: in the order of the computation; the first is the image.
        pointwise: of each pointwise function the node that it starts from and its result.
        logits: where the logits are read.
        channels: K, number of logits per voxel.
        layer: the node that the layer asked for is a pointwise function of, if one was.
    """

    jaxpr: ClosedJaxpr
    nodes: tuple[Node, ...]
    pointwise: tuple[tuple[int, Var], ...]
    logits: Source
    channels: int
    layer: int | None = None

    @property
    def samples(self) -> int:
        """N, number of images at once."""
        return _shape(self.nodes[0].variable)[0]


def structure_of(
    function: LogitFunction, parameters: Any, shape: Sequence[int], layer: str | None = None
) -> Structure | None:
    """The structure of a network on images of this shape (N, X, Y, Z, C).

    Args:
        function: the network.
        parameters: its first argument, arrays or their shapes.
        shape: of the images.
        layer: a layer to find in it, of a `jaxsal.types.LayeredFunction`.

    Returns:
        None if the network is not local.
    """
    return _structure_of(function, Shapes.of(parameters), tuple(shape), layer)


def traced(
    function: Any, parameters: Shapes, shape: Sequence[int], layer: str | None = None
) -> ClosedJaxpr:
    """The program from parameters' leaves and images of this shape to logits, and to a layer.

    Convolutions are `conv_general_dilated`; calls of other programs are not written out.
    """

    def flat(*arguments: Any) -> tuple[jax.Array, ...]:
        *leaves, images = arguments
        tree = jax.tree.unflatten(parameters.tree, leaves)
        if layer is None:
            return (function(tree, images),)
        logits, activations = function.with_activations(tree, images)
        return logits, activations[layer]

    arguments = jax.tree.leaves(parameters.structs())
    arguments.append(jax.ShapeDtypeStruct(tuple(shape), jnp.float32))
    with as_traced():
        return jax.make_jaxpr(flat)(*arguments)


@lru_cache(maxsize=64)
def _structure_of(
    function: Any, parameters: Shapes, shape: tuple[int, ...], layer: str | None
) -> Structure | None:
    nested = traced(function, parameters, shape, layer)

    def inlined(*arguments: Any) -> list[Any]:
        return _inline(nested.jaxpr, nested.consts, arguments)

    arguments = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in nested.in_avals]
    return _Builder(jax.make_jaxpr(inlined)(*arguments)).build()


def _inline(jaxpr: Jaxpr, consts: Sequence[Any], arguments: Sequence[Any]) -> list[Any]:
    """Evaluates a jaxpr, and calls of others within it as if they were written out."""
    values = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *arguments], strict=True))
    for equation in jaxpr.eqns:
        inputs = [v.val if isinstance(v, Literal) else values[v] for v in equation.invars]
        inner = equation.params.get("jaxpr")
        if equation.primitive.name in _WRAPPERS and inner is not None:
            closed = inner if isinstance(inner, ClosedJaxpr) else ClosedJaxpr(inner, ())
            outputs = _inline(closed.jaxpr, closed.consts, inputs)
        else:
            outputs = bind(equation, inputs)
        values.update(zip(equation.outvars, outputs, strict=True))
    return [v.val if isinstance(v, Literal) else values[v] for v in jaxpr.outvars]


def bind(equation: JaxprEqn, inputs: Sequence[Any]) -> list[Any]:
    """The results of one equation for these inputs."""
    parameters = equation.primitive.get_bind_params(equation.params)
    functions, parameters = parameters if isinstance(parameters, tuple) else ((), parameters)
    outputs = equation.primitive.bind(*functions, *inputs, **parameters)  # as JAX evaluates them
    return list(outputs) if equation.primitive.multiple_results else [outputs]


class _Builder:
    def __init__(self, closed: ClosedJaxpr) -> None:
        self._closed = closed
        *_, image = closed.jaxpr.invars
        self._nodes = [_node(image)]
        self._origin = {image: 0}  # of each dependent variable: the node that it is a function of
        self._shifted = {image}  # variables that are a node's value, up to a constant
        self._pointwise: dict[Var, int] = {}

    def build(self) -> Structure | None:
        for equation in self._closed.jaxpr.eqns:
            inputs = [v for v in equation.invars if isinstance(v, Var) and v in self._origin]
            if inputs and not self._add(equation, inputs):
                return None
        logits, *layers = self._closed.jaxpr.outvars
        if any(v not in self._origin or len(_shape(v)) != 5 for v in (logits, *layers)):
            return None
        source = self._source(logits)
        return Structure(
            self._closed,
            tuple(self._nodes),
            tuple((self._origin[v], v) for v in self._pointwise),
            source,
            _shape(logits)[-1],
            *(self._origin[v] for v in layers),
        )

    def _add(self, equation: JaxprEqn, inputs: list[Var]) -> bool:
        """Takes one equation that depends on the image into the graph; false if it cannot be."""
        name = equation.primitive.name
        origins = {self._origin[v] for v in inputs}
        if name == "conv_general_dilated":
            kernel = _kernel(equation) if inputs == equation.invars[:1] else None
            return kernel is not None and self._add_node(equation, inputs, kernel=kernel)
        if name == "concatenate":
            joined = inputs == equation.invars and equation.params["dimension"] == 4
            sizes = tuple(_shape(v)[-1] for v in inputs)
            return joined and self._add_node(equation, inputs, joins=sizes)
        if not _is_pointwise(equation, inputs):
            return False
        if len(origins) > 1:
            signs = {"add": (1, 1), "sub": (1, -1)}.get(name)
            return signs is not None and self._add_node(equation, inputs, signs=signs)
        shifts = _is_shift(equation, inputs) and inputs[0] in self._shifted
        for variable in equation.outvars:
            self._origin[variable] = next(iter(origins))
            if shifts:
                self._shifted.add(variable)
        return True

    def _add_node(self, equation: JaxprEqn, inputs: list[Var], **kind: Any) -> bool:
        (result,) = equation.outvars
        sources = tuple(self._source(v) for v in inputs)
        self._origin[result] = len(self._nodes)
        self._shifted.add(result)
        self._nodes.append(_node(result, sources, **kind))
        return True

    def _source(self, variable: Var) -> Source:
        if variable in self._shifted:
            return Source(self._origin[variable], None)
        index = self._pointwise.setdefault(variable, len(self._pointwise))
        return Source(self._origin[variable], index)


def _node(variable: Any, sources: tuple[Source, ...] = (), **kind: Any) -> Node:
    _, x, y, z, _ = variable.aval.shape
    return Node(variable, (x, y, z), variable.aval.dtype, sources, **kind)


def _kernel(equation: JaxprEqn) -> Kernel | None:
    """The convolution, if it is one of those in `jaxsal.nets.convolution`."""
    of = equation.params
    numbers = of["dimension_numbers"]
    dilation, stride = of["lhs_dilation"], of["window_strides"]
    plain = (
        of["feature_group_count"] == of["batch_group_count"] == 1
        and set(of["rhs_dilation"]) == {1}
        and tuple(numbers.lhs_spec) == tuple(numbers.out_spec) == CHANNELS_LAST
        and 1 in (max(dilation), max(stride))
        and of["preferred_element_type"] in (None, _dtype(equation.invars[0]))
    )
    if not plain:
        return None
    outputs, inputs, *spatial = numbers.rhs_spec
    size = tuple(_shape(equation.invars[1])[axis] for axis in spatial)
    low, high = zip(*of["padding"], strict=True)
    extra = tuple(h - l for l, h in zip(low, high, strict=True))  # noqa: E741
    transposed = max(dilation) > 1
    if min(extra) < 0 or (max(extra) > 0 and not transposed):
        return None
    padding = tuple(k - 1 - p for k, p in zip(size, low, strict=True)) if transposed else low
    if min(padding) < 0:
        return None
    precision = of["precision"]
    return Kernel(
        variable=equation.invars[1],
        axes=(*spatial, inputs, outputs),
        size=size,
        stride=dilation if transposed else stride,
        padding=padding,
        extra=extra,
        transposed=transposed,
        precision=None if precision is None else precision[0].name.lower(),
    )


def _is_shift(equation: JaxprEqn, inputs: list[Var]) -> bool:
    """Whether the slope is one everywhere."""
    name = equation.primitive.name
    minuend = name != "sub" or inputs[0] is equation.invars[0]
    real = all(jnp.issubdtype(_dtype(v), jnp.floating) for v in (*inputs, *equation.outvars))
    return name in _SHIFTS and len(inputs) == 1 and minuend and real


def _is_pointwise(equation: JaxprEqn, inputs: Iterable[Var]) -> bool:
    """Whether every result at a position depends on the inputs at that position only."""
    if not _all_pointwise([equation]):
        return False
    return len({_shape(v) for v in (*inputs, *equation.outvars)}) == 1


def _dtype(variable: Any) -> Any:
    return variable.aval.dtype


def _shape(variable: Any) -> tuple[int, ...]:
    return tuple(variable.aval.shape)


def _all_pointwise(equations: Iterable[JaxprEqn]) -> bool:
    for equation in equations:
        name = equation.primitive.name
        if name in _WRAPPERS or name == "custom_jvp_call":
            inner = equation.params.get("jaxpr", equation.params.get("call_jaxpr"))
            if inner is None or not _all_pointwise(inner.eqns):
                return False
        elif name not in _POINTWISE:
            return False
    return True
