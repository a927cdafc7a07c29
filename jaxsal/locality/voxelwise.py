"""Pull-backs of one voxel after the other through the fine layers, in blocks of cells.

On a TPU a batch of large boxes, each cut from elsewhere, costs more than the products: gathers
run box by box, and few channels leave most lanes empty. One voxel's boxes fit into the memory
on the chip, in blocks that fill the lanes (`jaxsal.locality.mosaics`), and are cut by plain slices.

Cells of a mosaic outside the grid are multiplied with zeros before anything reads them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxsal.locality.blocks import block_kernel, pull_back_blocks, to_blocks, to_cells
from jaxsal.locality.boxes import Boxes
from jaxsal.locality.mosaics import (
    ONE,
    Arrival,
    Blocking,
    Mosaic,
    Mosaics,
    blockings_of,
    factor_taken,
    touched,
)
from jaxsal.locality.structure import Source, Structure
from jaxsal.locality.tables import Tables, look_up, sliced
from jaxsal.types import Triple


class Handed(NamedTuple):
    """What a node hands to a source, for a batch of voxels.

    Attributes:
        reader: the node.
        source: what it reads.
        values: (B, N, X, Y, Z, C) where `Mosaics.arrival` says.
    """

    reader: int
    source: Source
    values: jax.Array


def arranged_kernel(structure: Structure, node: int, kernel: jax.Array) -> jax.Array:
    """The kernel of a convolution, as `Kernel.oriented` gives it, as `pull_back` takes it."""
    of = structure.nodes[node].kernel
    assert of is not None
    return block_kernel(kernel, factor_taken(structure, blockings_of(structure), node), of.stride)


def arranged_slopes(blocking: Blocking, slopes: jax.Array) -> jax.Array:
    """Slopes (N, X, Y, Z, C) in blocks from a blocking's lowest cell on; zero outside the grid."""
    ends = zip(blocking.low, blocking.high, slopes.shape[1:4], strict=True)
    edges = [(-low, high - n, 0) for low, high, n in ends]
    edges = [(0, 0, 0), *edges, (0, 0, 0)]
    return to_blocks(lax.pad(slopes, jnp.zeros((), slopes.dtype), edges), blocking.factor)


def pull_back(
    structure: Structure,
    boxes: Boxes,
    kernels: Sequence[Any],
    slopes: Sequence[jax.Array],
    slots: jax.Array,
    positions: jax.Array,
    handed: Sequence[Handed],
) -> jax.Array:
    """From the nodes of `blockings_of` to the image.

    Args:
        structure: of the network.
        boxes: that the other nodes' cotangents lie in.
        kernels: of every node; of those here, by `arranged_kernel`.
        slopes: of every pointwise function, K times; of those that start from a node here, by
            `arranged_slopes`.
        slots: (B,) which of the K.
        positions: (B, 3) voxels within the window.
        handed: what the other nodes hand to those here.

    Returns:
        (B, N, x, y, z, C) on the boxes of the image.
    """
    way = _Way(structure, boxes, Mosaics(structure, boxes), kernels, slopes)

    def gradient(arguments: tuple[jax.Array, jax.Array, list[jax.Array]]) -> jax.Array:
        slot, position, values = arguments
        return way.gradient(slot, position, handed, values)

    return lax.map(gradient, (slots, positions, [one.values for one in handed]))


class _Part(NamedTuple):
    """A summand of a cotangent: (N, X, Y, Z, C), in blocks."""

    values: jax.Array
    arrival: Arrival


class _Way(NamedTuple):
    """What every voxel's way to the image has in common; see `pull_back`."""

    structure: Structure
    boxes: Boxes
    mosaics: Mosaics
    kernels: Sequence[Any]
    slopes: Sequence[jax.Array]

    def gradient(
        self,
        slot: jax.Array,
        position: jax.Array,
        handed: Sequence[Handed],
        values: Sequence[jax.Array],
    ) -> jax.Array:
        """One voxel's (N, x, y, z, C), from what it is handed."""
        pending: dict[Source, list[_Part]] = {}
        for one, value in zip(handed, values, strict=True):
            part = _Part(value, self.mosaics.arrival(one.reader, one.source.node))
            pending.setdefault(one.source, []).append(part)
        for index in self.mosaics.nodes:
            mine = [source for source in pending if source.node == index]
            summands = [self._through_pointwise(s, pending.pop(s), slot, position) for s in mine]
            cotangent = sum(summands[1:], summands[0]).astype(self.structure.nodes[index].dtype)
            for source, part in self._handed_on(index, cotangent):
                pending.setdefault(source, []).append(part)
        return self._boxed(cotangent, position)

    def _through_pointwise(
        self, source: Source, parts: Sequence[_Part], slot: jax.Array, position: jax.Array
    ) -> jax.Array:
        mosaic, total = self.mosaics[source.node], None
        for part in sorted(parts, key=lambda part: -part.values.size):  # what is placed, later
            total = self._added(total, part, mosaic, position)
        assert total is not None
        if source.pointwise is None:
            return total if source.node == 0 else self._inside(total, source.node, position)
        blocking = mosaic.blocking
        tables = _divided(_minus(mosaic.origin, blocking.low), blocking.factor)
        slopes, begin = self.slopes[source.pointwise], look_up(tables, position)
        size = (1, slopes.shape[1], *mosaic.blocks, slopes.shape[-1])
        box = lax.dynamic_slice(slopes, (slot, 0, *begin, 0), size)[0]
        return total.astype(box.dtype) * box

    def _added(
        self, total: jax.Array | None, part: _Part, mosaic: Mosaic, position: jax.Array
    ) -> jax.Array:
        """The sum of what is in the mosaic already and a part."""
        values, (origin, length, factor) = part
        to = mosaic.blocking.factor
        offsets = self.mosaics.offsets(origin, mosaic.origin)
        if factor != to and factor != ONE:
            values = _first(to_cells(values, factor), length)
        if factor != to and to != ONE:
            axes = zip(offsets, length, to, strict=True)
            blocks = tuple(touched(offset, n, f) for offset, n, f in axes)
            cells = tuple(n * f for n, f in zip(blocks, to, strict=True))
            within = tuple(offset % f for offset, f in zip(offsets, to, strict=True))
            values = to_blocks(_placed(None, values, cells, within, position), to)
        return _placed(total, values, mosaic.blocks, _divided(offsets, to), position)

    def _inside(self, values: jax.Array, node: int, position: jax.Array) -> jax.Array:
        """With zeros for the cells outside the node's grid."""
        grid = self.structure.nodes[node].grid
        origin, _, blocks, blocking = self.mosaics[node]
        if not blocking.overhangs(grid):
            return values
        begin = look_up(origin, position)
        inside = jnp.ones((1, 1, 1, 1, 1), bool)
        for axis, (n, f) in enumerate(zip(blocks, blocking.factor, strict=True)):
            cells = begin[axis] + jnp.arange(n * f)
            along = (cells >= 0) & (cells < grid[axis])
            inside = inside & along.reshape([-1 if a == axis + 1 else 1 for a in range(5)])
        cells = to_blocks(inside.astype(values.dtype), blocking.factor)
        split = values.reshape(*values.shape[:4], cells.shape[-1], -1)
        return (split * cells[..., None]).reshape(values.shape)

    def _handed_on(self, index: int, cotangent: jax.Array) -> Iterator[tuple[Source, _Part]]:
        node, first = self.structure.nodes[index], 0
        for i, source in enumerate(node.sources):
            arrival = self.mosaics.arrival(index, source.node)
            if node.kernel is not None:
                values = self._through_convolution(index, cotangent, arrival)
            elif node.joins:
                cells = cotangent.reshape(*cotangent.shape[:4], -1, sum(node.joins))
                values = cells[..., first : first + node.joins[i]]
                values = values.reshape(*cotangent.shape[:4], -1)
                first += node.joins[i]
            else:
                values = cotangent if node.signs[i] > 0 else -cotangent
            yield source, _Part(values, arrival)

    def _through_convolution(self, index: int, cotangent: jax.Array, arrival: Arrival) -> jax.Array:
        mosaic, kernel = self.mosaics[index], self.structure.nodes[index].kernel
        assert kernel is not None
        if factor_taken(self.structure, self.mosaics.blockings, index) != mosaic.blocking.factor:
            cotangent = _first(to_cells(cotangent, mosaic.blocking.factor), mosaic.length)
        x, y, z = (-(-n // f) for n, f in zip(arrival.length, arrival.factor, strict=True))
        with kernel.multiplied():
            return pull_back_blocks(cotangent, self.kernels[index], (x, y, z))

    def _boxed(self, values: jax.Array, position: jax.Array) -> jax.Array:
        """From a cotangent of the image its box, zero where that reaches outside."""
        mosaic, size = self.mosaics[0], self.boxes.sizes[0]
        values = to_cells(values, mosaic.blocking.factor)
        offsets = self.mosaics.offsets(self.boxes.starts[0], mosaic.origin)
        axes = list(zip(offsets, size, values.shape[1:4], strict=True))
        lows = [max(0, -int(o.min())) for o, _, _ in axes]
        highs = [max(0, int(o.max()) + n - cells) for o, n, cells in axes]
        edges = [(0, 0, 0), *((a, b, 0) for a, b in zip(lows, highs, strict=True)), (0, 0, 0)]
        padded = lax.pad(values, jnp.zeros((), values.dtype), edges)
        starts = tuple(offset + low for offset, low in zip(offsets, lows, strict=True))
        return sliced(padded, look_up(starts, position), size)


def _placed(
    total: jax.Array | None,
    values: jax.Array,
    size: Sequence[int],
    offsets: Tables,
    position: jax.Array,
) -> jax.Array:
    """The sum of (N, *size, C), or of zeros, and smaller values that begin at the offsets there."""
    if all(len(offset) == 1 for offset in offsets):
        ends = zip(offsets, size, values.shape[1:4], strict=True)
        edges = [(int(o[0]), n - int(o[0]) - m, 0) for o, n, m in ends]
        edges = [(0, 0, 0), *edges, (0, 0, 0)]
        padded = lax.pad(values, jnp.zeros((), values.dtype), edges)
        return padded if total is None else total + padded
    if total is None:
        total = jnp.zeros((values.shape[0], *size, values.shape[-1]), values.dtype)
    begin = look_up(offsets, position)
    x, y, z = values.shape[1:4]
    there = sliced(total, begin, (x, y, z))
    return lax.dynamic_update_slice(total, there + values, (0, *begin, 0))


def _first(values: jax.Array, size: Triple) -> jax.Array:
    x, y, z = size
    return values[:, :x, :y, :z]


def _minus(tables: Tables, cells: Triple) -> Tables:
    return tuple(table - cell for table, cell in zip(tables, cells, strict=True))


def _divided(tables: Tables, factor: Triple) -> Tables:
    return tuple(table // f for table, f in zip(tables, factor, strict=True))
