"""Pull-backs of single-voxel logits through the boxes that they depend on.

The structure's pointwise functions are replaced by their slopes at an image (`linearise`, once
per window). A voxel's cotangent is then carried from node to node towards the image, each time
multiplied with a box cut from the slopes, and handed through a convolution on boxes alone:

- a convolution's pull-back is a transposed convolution of the whole box, of which the source's
  box is then cut;
- a transposed convolution's is a strided convolution. The box is first placed into a buffer that
  begins where the stride asks for, so that the same program serves every position.

Equal to the pull-back through the whole window, as everything outside the boxes is zero.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import Literal, Var

from jaxsal.current_device import current_device
from jaxsal.locality.structure import Kernel, Node, Source, Structure, bind
from jaxsal.nets.convolution import convolution, forward_form, transposed_convolution
from jaxsal.types import Triple

if TYPE_CHECKING:
    from jaxsal.locality.boxes import Boxes, Extraction

Kernels = tuple[Any, ...]
Slopes = tuple[jax.Array, ...]


def kernels_of(structure: Structure, parameters: Any) -> Kernels:
    """The kernel of every node that is a convolution, oriented as `pull_back` needs it."""
    values = _Values(structure, parameters)
    return tuple(
        None if node.kernel is None else node.kernel.oriented(values[node.kernel.variable])
        for node in structure.nodes
    )


def linearise(structure: Structure, parameters: Any, images: jax.Array) -> Slopes:
    """The slope of every pointwise function of the network at these images.

    Args:
        structure: of the network on images of this shape.
        parameters: of the network.
        images: (N, X, Y, Z, C).

    Returns:
        For each of `Structure.pointwise` (N, X', Y', Z', C') on its node's grid.
    """
    values = _Values(structure, parameters, images)
    return tuple(values.slope(node, result) for node, result in structure.pointwise)


def pull_back(
    structure: Structure,
    boxes: Boxes,
    kernels: Kernels,
    slopes: Slopes,
    positions: jax.Array,
    weights: jax.Array,
    target: int,
) -> jax.Array:
    """Gradients of weighted single-voxel logits with respect to the image, on boxes.

    Args:
        structure: of the network.
        boxes: on windows of the structure's size.
        kernels: from `kernels_of`.
        slopes: from `linearise`, at N images.
        positions: (B, 3) voxels within the window.
        weights: (B,) factor of each voxel's logit.
        target: output channel.

    Returns:
        (B, N, x, y, z, C) on boxes of the size ``boxes.sizes[0]`` that begin at
        ``boxes.starts[0]`` of each voxel's position.
    """
    samples = structure.samples
    one_hot = jax.nn.one_hot(target, structure.channels, dtype=weights.dtype)
    seed = jnp.broadcast_to(
        weights[:, None, None, None, None, None] * one_hot,
        (len(weights), samples, 1, 1, 1, structure.channels),
    )
    pending: dict[Source, jax.Array] = {structure.logits: seed}

    def receive(source: Source, cotangent: jax.Array) -> None:
        pending[source] = pending[source] + cotangent if source in pending else cotangent

    for index in reversed(range(len(structure.nodes))):
        node = structure.nodes[index]
        mine = [source for source in pending if source.node == index]
        parts = [
            _through_pointwise(slopes, boxes, positions, source, pending.pop(source))
            for source in mine
        ]
        if not parts:
            continue
        cotangent = sum(parts[1:], parts[0]).astype(node.dtype)
        if index == 0:
            return cotangent
        at_channel = 0
        for i, source in enumerate(node.sources):
            cuts = boxes.cut(index, i)
            if node.kernel is not None:
                result = _through_convolution(
                    node.kernel, kernels[index], cotangent, cuts, positions
                )
            else:
                part = cotangent
                if node.joins:
                    part = part[..., at_channel : at_channel + node.joins[i]]
                    at_channel += node.joins[i]
                elif node.signs[i] < 0:
                    part = -part
                result = _cut(part, cuts, positions)
            receive(source, result)
    raise AssertionError("the logits of a local network depend on its image")


def _through_pointwise(
    slopes: Slopes, boxes: Boxes, positions: jax.Array, source: Source, cotangent: jax.Array
) -> jax.Array:
    if source.pointwise is None:
        return cotangent
    starts = _look_up(boxes.starts[source.node], positions)
    box = _slices(slopes[source.pointwise], starts, boxes.sizes[source.node])
    return cotangent.astype(box.dtype) * box


def _through_convolution(
    kernel: Kernel,
    value: jax.Array,
    cotangent: jax.Array,
    cuts: Sequence[Extraction],
    positions: jax.Array,
) -> jax.Array:
    batch, samples = cotangent.shape[:2]
    with _precision(kernel):
        if kernel.transposed:
            buffer = _cut(cotangent, cuts, positions)
            flat = buffer.reshape(batch * samples, *buffer.shape[2:])
            result = convolution(flat, value, stride=kernel.stride)
            return result.reshape(batch, samples, *result.shape[1:])
        flat = cotangent.reshape(batch * samples, *cotangent.shape[2:])
        result = transposed_convolution(flat, value, stride=kernel.stride)
        return _cut(result.reshape(batch, samples, *result.shape[1:]), cuts, positions)


def _cut(values: jax.Array, cuts: Sequence[Extraction], positions: jax.Array) -> jax.Array:
    """From each example of (B, N, X, Y, Z, C) its box, zero where it reaches outside."""
    size = tuple(cut.size for cut in cuts)
    if all((cut.offsets == cut.offsets[0]).all() for cut in cuts):
        edges = [(-o, o + cut.size - cut.source, 0) for cut in cuts for o in [int(cut.offsets[0])]]
        return lax.pad(values, jnp.zeros((), values.dtype), [(0, 0, 0)] * 2 + [*edges, (0, 0, 0)])
    edges = [(cut.low, cut.high, 0) for cut in cuts]
    padded = lax.pad(values, jnp.zeros((), values.dtype), [(0, 0, 0)] * 2 + [*edges, (0, 0, 0)])
    starts = _look_up([cut.offsets + cut.low for cut in cuts], positions)

    def box(example: jax.Array, start: jax.Array) -> jax.Array:
        corner = (0, start[0], start[1], start[2], 0)
        return lax.dynamic_slice(example, corner, (example.shape[0], *size, example.shape[-1]))

    return _each(box, padded, starts)


def _slices(values: jax.Array, starts: jax.Array, size: Triple) -> jax.Array:
    """Boxes (B, N, x, y, z, C) of (N, X, Y, Z, C) at these starts (B, 3)."""

    def box(start: jax.Array) -> jax.Array:
        corner = (0, start[0], start[1], start[2], 0)
        return lax.dynamic_slice(values, corner, (values.shape[0], *size, values.shape[-1]))

    return _each(box, starts)


def _each(function: Any, *batched: jax.Array) -> jax.Array:
    """Applies to each example; on CPU one by one, as XLA's batched slices are slow there."""
    if current_device().platform != "cpu":
        return jax.vmap(function)(*batched)
    return jnp.stack([function(*one) for one in zip(*batched, strict=True)])


def _look_up(tables: Sequence[np.ndarray], positions: jax.Array) -> jax.Array:
    """Per axis the entry of a table at each position: (B, 3)."""
    return jnp.stack(
        [jnp.asarray(table)[positions[:, axis]] for axis, table in enumerate(tables)], axis=-1
    )


class _Values:
    """Values of the jaxpr's variables, computed when asked for.

    Args:
        structure: whose jaxpr.
        parameters: of the network.
        images: (N, X, Y, Z, C); without them only what depends on the parameters alone is there.
    """

    def __init__(
        self, structure: Structure, parameters: Any, images: jax.Array | None = None
    ) -> None:
        jaxpr = structure.jaxpr.jaxpr
        *inputs, image = jaxpr.invars
        self._nodes = structure.nodes
        self._given: dict[Var, Any] = {
            **dict(zip(jaxpr.constvars, structure.jaxpr.consts, strict=True)),
            **dict(zip(inputs, jax.tree.leaves(parameters), strict=True)),
        }
        self._made_by = {v: equation for equation in jaxpr.eqns for v in equation.outvars}
        self._known = dict(self._given)
        if images is not None:
            self._known[image] = images
            for node in structure.nodes[1:]:  # in order, for which the recursion stays shallow
                self._known[node.variable] = self._value(node)

    def __getitem__(self, variable: Var | Literal) -> Any:
        return self._evaluate(variable, self._known)

    def slope(self, node: int, result: Var) -> jax.Array:
        """The derivative of a pointwise function that leads from a node's value to a result."""
        start = self._nodes[node].variable

        def pointwise(value: jax.Array) -> jax.Array:
            return self._evaluate(result, {**self._given, start: value})

        value = self[start]
        return jax.jvp(pointwise, (value,), (jnp.ones_like(value),))[1]

    def _evaluate(self, variable: Var | Literal, known: dict[Var, Any]) -> Any:
        if isinstance(variable, Literal):
            return variable.val
        if variable not in known:
            equation = self._made_by[variable]
            results = bind(equation, [self._evaluate(v, known) for v in equation.invars])
            known.update(zip(equation.outvars, results, strict=True))
        return known[variable]

    def _value(self, node: Node) -> jax.Array:
        """A convolution in its fastest form; anything else as it was traced."""
        if node.kernel is None:
            return self[node.variable]
        kernel = node.kernel
        x, value = self[self._made_by[node.variable].invars[0]], self[kernel.variable]
        with _precision(kernel):
            if kernel.transposed:
                return transposed_convolution(
                    x,
                    kernel.oriented(value),
                    stride=kernel.stride,
                    padding=kernel.padding,
                    output_padding=kernel.extra,
                )
            oriented = kernel.oriented(value)
            form = forward_form(x, oriented, kernel.stride)
            return convolution(x, oriented, stride=kernel.stride, padding=kernel.padding, form=form)


def _precision(kernel: Kernel) -> contextlib.AbstractContextManager[None]:
    if kernel.precision is None:
        return contextlib.nullcontext()
    return jax.default_matmul_precision(kernel.precision)
