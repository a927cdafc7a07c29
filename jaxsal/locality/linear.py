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

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import Literal, Var

from jaxsal.current_device import current_device
from jaxsal.locality.mosaics import Blockings, blockings_of
from jaxsal.locality.structure import Kernel, Node, Source, Structure, bind
from jaxsal.locality.tables import Tables, look_up, sliced
from jaxsal.locality.voxelwise import Handed, arranged_kernel, arranged_slopes
from jaxsal.locality.voxelwise import pull_back as voxelwise_pull_back
from jaxsal.nets.convolution import convolution, transposed_convolution
from jaxsal.nets.fastest_form import forward_form
from jaxsal.types import Triple

if TYPE_CHECKING:
    from jaxsal.locality.boxes import Boxes, Extraction

Kernels = tuple[Any, ...]
Slopes = tuple[jax.Array, ...]

_SMALL_BYTES = 2**16  # of a box


def kernels_of(structure: Structure, parameters: Any) -> Kernels:
    """The kernel of every node that is a convolution, laid out as `pull_back` needs it."""
    values = _Values(structure, parameters)
    voxelwise = _voxelwise(structure)

    def kernel(index: int, node: Node) -> jax.Array | None:
        if node.kernel is None:
            return None
        oriented = node.kernel.oriented(values[node.kernel.variable])
        if index in voxelwise:
            return arranged_kernel(structure, index, oriented)
        return oriented.transpose(_kernel_axes())

    return tuple(kernel(index, node) for index, node in enumerate(structure.nodes))


def linearise(structure: Structure, parameters: Any, images: jax.Array) -> Slopes:
    """The slope of every pointwise function of the network at these images.

    Args:
        structure: of the network on images of this shape.
        parameters: of the network.
        images: (N, X, Y, Z, C).

    Returns:
        For each of `Structure.pointwise` (N, X', Y', Z', C') on its node's grid, or in blocks of
        that, as `pull_back` needs it.
    """
    values = _Values(structure, parameters, images)
    voxelwise = _voxelwise(structure)

    def slope(node: int, result: Var) -> jax.Array:
        found = values.slope(node, result)
        return arranged_slopes(voxelwise[node], found) if node in voxelwise else found

    return tuple(slope(node, result) for node, result in structure.pointwise)


def pull_back(
    structure: Structure,
    boxes: Boxes,
    kernels: Kernels,
    slopes: Slopes,
    slots: jax.Array,
    positions: jax.Array,
    weights: jax.Array,
    target: int,
) -> jax.Array:
    """Gradients of weighted single-voxel logits with respect to the image, on boxes.

    Args:
        structure: of the network.
        boxes: on windows of the structure's size.
        kernels: from `kernels_of`.
        slopes: from `linearise`, at several times N images: (K, N, X', Y', Z', C') each.
        slots: (B,) which of the K each voxel is pulled back at.
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
    handed: list[Handed] = []
    voxelwise = _voxelwise(structure)
    for index in reversed(range(max(voxelwise, default=-1) + 1, len(structure.nodes))):
        node = structure.nodes[index]
        mine = [source for source in pending if source.node == index]
        parts = [
            _through_pointwise(slopes, boxes, slots, positions, source, pending.pop(source))
            for source in mine
        ]
        if not parts:
            continue
        cotangent = sum(parts[1:], parts[0]).astype(node.dtype)
        if index == 0:
            return cotangent
        for i, (source, part) in enumerate(_parts(node, cotangent)):
            cuts = boxes.cut(index, i)
            result = _through_convolution(node.kernel, kernels[index], part, cuts, positions)
            if source.node in voxelwise:
                handed.append(Handed(index, source, result))
                continue
            if node.kernel is None or not node.kernel.transposed:
                result = _cut(result, cuts, positions)
            pending[source] = pending[source] + result if source in pending else result
    return voxelwise_pull_back(structure, boxes, kernels, slopes, slots, positions, handed)


def _voxelwise(structure: Structure) -> Blockings:
    """The nodes that are pulled back one voxel after the other: on TPUs those of fine layers."""
    return blockings_of(structure) if current_device().platform == "tpu" else {}


def _kernel_axes() -> Sequence[int]:
    """The axes of an oriented kernel as it is kept: as cuDNN reads it, channels first, on GPUs."""
    return range(5) if current_device().platform in ("cpu", "tpu") else (4, 3, 0, 1, 2)


def _parts(node: Node, cotangent: jax.Array) -> Iterator[tuple[Source, jax.Array]]:
    """Of a node's cotangent what each source gets, before it passes through a convolution."""
    channel = 0
    for source, *kind in zip(node.sources, *filter(None, [node.joins, node.signs]), strict=True):
        part = cotangent
        if node.joins:
            part = cotangent[..., channel : channel + kind[0]]
            channel += kind[0]
        elif node.signs and kind[0] < 0:
            part = -cotangent
        yield source, part


def _through_pointwise(
    slopes: Slopes,
    boxes: Boxes,
    slots: jax.Array,
    positions: jax.Array,
    source: Source,
    cotangent: jax.Array,
) -> jax.Array:
    if source.pointwise is None:
        return cotangent
    tables, size = boxes.starts[source.node], boxes.sizes[source.node]
    box = _slices(slopes[source.pointwise], slots, tables, positions, size)
    return cotangent.astype(box.dtype) * box


def _through_convolution(
    kernel: Kernel | None,
    value: jax.Array,
    cotangent: jax.Array,
    cuts: Sequence[Extraction],
    positions: jax.Array,
) -> jax.Array:
    """All that a convolution makes of its cotangent; a transposed one, the box of its source."""
    if kernel is None:
        return cotangent
    if kernel.transposed:
        cotangent = _cut(cotangent, cuts, positions)
    through = convolution if kernel.transposed else transposed_convolution
    batch, samples = cotangent.shape[:2]
    value = value.transpose(np.argsort(_kernel_axes()))
    with kernel.multiplied():
        flat = cotangent.reshape(batch * samples, *cotangent.shape[2:])
        result = through(flat, value, stride=kernel.stride, shared=False)
    return result.reshape(batch, samples, *result.shape[1:])


def _cut(values: jax.Array, cuts: Sequence[Extraction], positions: jax.Array) -> jax.Array:
    """From each example of (B, N, X, Y, Z, C) its box, zero where it reaches outside."""
    size = tuple(cut.size for cut in cuts)
    if all((cut.offsets == cut.offsets[0]).all() for cut in cuts):
        edges = [(-o, o + cut.size - cut.source, 0) for cut in cuts for o in [int(cut.offsets[0])]]
        return lax.pad(values, jnp.zeros((), values.dtype), [(0, 0, 0)] * 2 + [*edges, (0, 0, 0)])
    edges = [(cut.low, cut.high, 0) for cut in cuts]
    padded = lax.pad(values, jnp.zeros((), values.dtype), [(0, 0, 0)] * 2 + [*edges, (0, 0, 0)])
    tables = tuple(cut.offsets + cut.low for cut in cuts)

    def box(position: jax.Array, example: jax.Array) -> jax.Array:
        return sliced(example, look_up(tables, position), size)

    return _each(box, positions, padded)


def _slices(
    values: jax.Array,
    slots: jax.Array,
    tables: Tables,
    positions: jax.Array,
    size: Triple,
) -> jax.Array:
    """Boxes (B, N, x, y, z, C) of (K, N, X, Y, Z, C) that begin where the tables say."""
    _, samples, *_, channels = values.shape

    def box(slot: jax.Array, position: jax.Array) -> jax.Array:
        corner: list[Any] = [slot, 0, *look_up(tables, position), 0]
        return lax.dynamic_slice(values, corner, (1, samples, *size, channels))[0]

    return _each(box, slots, positions)


def _each(function: Any, *batched: jax.Array) -> jax.Array:
    """Applies to each example, in the way in which the platform slices fast.

    GPUs fuse gathers with what follows; for TPUs and CPUs slices are better plain ones, small ones
    on a CPU excepted, where a loop's turns cost more.
    """
    if len(batched[0]) == 1:
        return function(*(values[0] for values in batched))[None]
    one = jax.eval_shape(function, *(values[0] for values in batched))
    platform, small = current_device().platform, one.size * one.dtype.itemsize <= _SMALL_BYTES
    if platform == "tpu" or (platform == "cpu" and not small):
        return lax.map(lambda one: function(*one), batched)
    return jax.vmap(function)(*batched)


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
        with kernel.multiplied():
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
