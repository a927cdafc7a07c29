"""Where cotangents lie when one voxel after the other is pulled back: in blocks of cells.

A TPU computes with 128 lanes, which the channels of a fine layer are too few to fill. So a fine
layer's cells are put together into blocks of ``factor`` cells per axis, whose cells and channels
lie side by side. The pull-back of a strided convolution then is a plain convolution, from blocks
to blocks ``stride`` times as wide.

A node's *mosaic* is the box of blocks that holds all that the node's readers hand to it. It begins
where they say, not where the node's grid does, and so may reach outside the grid.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from jaxsal.locality.boxes import Boxes
from jaxsal.locality.structure import Node, Structure
from jaxsal.locality.tables import Tables
from jaxsal.types import Triple

ONE: Triple = (1, 1, 1)
_MOST_CHANNELS = 256  # of a block: beyond two tiles of lanes, kernels consist of zeros mostly


class Blocking(NamedTuple):
    """How a node's cells are put into blocks, whatever the boxes.

    Attributes:
        factor: cells per block.
        phase: position of every block's first cell, modulo the factor.
        low: the first cell that a mosaic can hold, of every block's first cells.
        high: one past the last, likewise.
    """

    factor: Triple
    phase: Triple
    low: Triple
    high: Triple

    def overhangs(self, grid: Triple) -> bool:
        """Whether a mosaic can reach outside the grid."""
        return min(self.low) < 0 or any(h > n for h, n in zip(self.high, grid, strict=True))


Blockings = Mapping[int, Blocking]


@lru_cache(maxsize=64)
def blockings_of(structure: Structure) -> Blockings:
    """The blockings of the nodes that are pulled back voxel by voxel: the structure's first ones.

    These are the layers below the first up-sampling, unless a kernel has more numbers than the box
    that it makes: it is better read once for a whole batch. Empty if there is no such layer.
    """
    sizes = Boxes(structure).sizes
    last = 0
    for node, _ in zip(structure.nodes[1:], sizes, strict=False):
        if not _is_fine(structure, node, sizes):
            break
        last += 1
    blockings: dict[int, Blocking] = {}
    if 0 < last < structure.logits.node:
        for index in reversed(range(last + 1)):
            if readers(structure, index):
                blockings[index] = _blocking(structure, index, blockings)
    return blockings


def _is_fine(structure: Structure, node: Node, sizes: Sequence[Triple]) -> bool:
    if node.kernel is None:
        return True
    source, outputs = node.sources[0].node, channels_of(node)
    made = math.prod(sizes[source]) * channels_of(structure.nodes[source])
    numbers = math.prod(node.kernel.size) * channels_of(structure.nodes[source]) * outputs
    return not node.kernel.transposed and numbers <= made


def _blocking(structure: Structure, index: int, above: Blockings) -> Blocking:
    """From the blockings of the nodes above; what other readers hand on lies within the grid."""
    blocks: set[tuple[Triple, Triple]] = set()
    spans = [((0, 0, 0), structure.nodes[index].grid)]
    for reader in readers(structure, index):
        node = structure.nodes[reader]
        if reader not in above:
            spans.append(_reached(node, (0, 0, 0), node.grid))
            continue
        low, high = _reached(node, above[reader].low, above[reader].high)
        spans.append((low, high))
        factor = factor_given(structure, above, reader)
        blocks.add((factor, _remainders(low, factor)))
    factor, phase = next(iter(blocks)) if len(blocks) == 1 else (ONE, (0, 0, 0))
    if math.prod(factor) * channels_of(structure.nodes[index]) > _MOST_CHANNELS:
        factor, phase = ONE, (0, 0, 0)
    x, y, z = (
        _aligned(min(low[a] for low, _ in spans), max(high[a] for _, high in spans), f, p)
        for a, (f, p) in enumerate(zip(factor, phase, strict=True))
    )
    return Blocking(factor, phase, (x[0], y[0], z[0]), (x[1], y[1], z[1]))


def _remainders(cells: Triple, factor: Triple) -> Triple:
    x, y, z = (cell % f for cell, f in zip(cells, factor, strict=True))
    return x, y, z


def _aligned(low: int, high: int, factor: int, phase: int) -> tuple[int, int]:
    """To blocks; and room for what begins within a block, wherever it lies in a mosaic."""
    low -= (low - phase) % factor
    high += 2 * (factor - 1)
    return low, low + -(-(high - low) // factor) * factor


def _reached(node: Node, low: Triple, high: Triple) -> tuple[Triple, Triple]:
    """What a node's pull-back makes of the cells between low and high, as cells of a source."""
    if node.kernel is None:
        return low, high
    if node.kernel.transposed:  # cut to the source's grid
        return (0, 0, 0), (0, 0, 0)
    of = node.kernel
    axes = zip(low, high, of.stride, of.padding, of.size, strict=True)
    x, y, z = ((a * s - p, (b - 1) * s - p + k) for a, b, s, p, k in axes)
    return (x[0], y[0], z[0]), (x[1], y[1], z[1])


def readers(structure: Structure, source: int) -> list[int]:
    """The nodes that read a node and that the logits depend on, in order."""
    return [
        index
        for index in _live(structure)
        if any(s.node == source for s in structure.nodes[index].sources)
    ]


@lru_cache(maxsize=64)
def _live(structure: Structure) -> list[int]:
    found = {structure.logits.node}
    for index in reversed(range(len(structure.nodes))):
        if index in found:
            found.update(source.node for source in structure.nodes[index].sources)
    return sorted(found)


def channels_of(node: Node) -> int:
    """Number of channels of a node's value."""
    aval: Any = node.variable.aval
    return int(aval.shape[-1])


def factor_taken(structure: Structure, blockings: Blockings, reader: int) -> Triple:
    """The factor of the blocks from which a convolution's cotangent is pulled back."""
    node, factor = structure.nodes[reader], blockings[reader].factor
    assert node.kernel is not None
    cells = math.prod(factor) * math.prod(node.kernel.stride)
    few = cells * channels_of(structure.nodes[node.sources[0].node]) <= _MOST_CHANNELS
    return factor if few else ONE


def factor_given(structure: Structure, blockings: Blockings, reader: int) -> Triple:
    """The factor of the blocks that a node's cotangent is pulled back to."""
    node = structure.nodes[reader]
    if node.kernel is None:
        return blockings[reader].factor
    x, y, z = factor_taken(structure, blockings, reader)
    a, b, c = node.kernel.stride
    return x * a, y * b, z * c


class Arrival(NamedTuple):
    """Where what a node hands to a source lies.

    Attributes:
        origin: the cell of the source's grid where it begins.
        length: in cells.
        factor: of its blocks.
    """

    origin: Tables
    length: Triple
    factor: Triple


class Mosaic(NamedTuple):
    """The blocks in which a node's cotangent lies.

    Attributes:
        origin: the cell of the node's grid where the first block begins.
        length: number of cells from there that can differ from zero.
        blocks: their number.
        blocking: of the blocks.
    """

    origin: Tables
    length: Triple
    blocks: Triple
    blocking: Blocking


class Mosaics:
    """The mosaics of the nodes that `blockings_of` lists, for the voxels that some boxes serve.

    Args:
        structure: of the network.
        boxes: in which the other nodes' cotangents lie.
    """

    def __init__(self, structure: Structure, boxes: Boxes) -> None:
        self.blockings = blockings_of(structure)
        self._structure, self._boxes = structure, boxes
        self._mosaics: dict[int, Mosaic] = {}
        for index in self.nodes:
            self._mosaics[index] = self._mosaic(index)

    @property
    def nodes(self) -> list[int]:
        """In the order in which they are pulled back."""
        return sorted(self.blockings, reverse=True)

    def __getitem__(self, node: int) -> Mosaic:
        return self._mosaics[node]

    def arrival(self, reader: int, source: int) -> Arrival:
        """Where what a node hands to its source lies."""
        node, boxes = self._structure.nodes[reader], self._boxes
        if reader in self._mosaics:
            mosaic = self._mosaics[reader]
            factor = factor_given(self._structure, self.blockings, reader)
            return Arrival(*_buffer(node, mosaic.origin, mosaic.length), factor)
        if node.kernel is not None and node.kernel.transposed:
            return Arrival(boxes.starts[source], boxes.sizes[source], ONE)
        return Arrival(*_buffer(node, boxes.starts[reader], boxes.sizes[reader]), ONE)

    def offsets(self, here: Tables, origin: Tables) -> Tables:
        """How far from the origin, for each voxel position; one entry if all served agree."""
        tables = []
        for a, b, allowed in zip(here, origin, self._boxes.allowed, strict=True):
            served = (a - b)[allowed]
            same = (served == served[0]).all()
            tables.append(served[:1] if same else np.where(allowed, a - b, served[0]))
        return tuple(tables)

    def _mosaic(self, index: int) -> Mosaic:
        arrivals = [self.arrival(reader, index) for reader in readers(self._structure, index)]
        blocking = self.blockings[index]
        axes = [self._along(axis, blocking, arrivals) for axis in range(3)]
        origin, length, blocks = zip(*axes, strict=True)
        return Mosaic(origin, length, blocks, blocking)

    def _along(
        self, axis: int, blocking: Blocking, arrivals: Sequence[Arrival]
    ) -> tuple[np.ndarray, int, int]:
        """Origin, length and number of blocks along an axis."""
        allowed, factor = self._boxes.allowed[axis], blocking.factor[axis]
        spans = [(a.origin[axis], a.length[axis]) for a in arrivals]
        first = np.min([begin for begin, _ in spans], axis=0)
        origin = first - (first - blocking.phase[axis]) % factor
        blocks = max(
            int(((begin - origin) // factor)[allowed].max())
            + touched((begin - origin)[allowed], length, factor)
            for begin, length in spans
        )
        origin = np.minimum(origin, blocking.high[axis] - blocks * factor)
        length = max(int((begin - origin)[allowed].max()) + length for begin, length in spans)
        return origin, length, blocks


def touched(offsets: np.ndarray, length: int, factor: int) -> int:
    """The most blocks that so many cells lie in that begin so far from a block's first cell."""
    return -(-(length + int((offsets % factor).max())) // factor)


def _buffer(node: Node, origin: Tables, length: Triple) -> tuple[Tables, Triple]:
    """Where a node's pull-back lies in a source's grid; its cotangent, in its own."""
    if node.kernel is None:
        return origin, length
    of = node.kernel
    tables = tuple(o * s - p for o, s, p in zip(origin, of.stride, of.padding, strict=True))
    x, y, z = ((n - 1) * s + k for n, s, k in zip(length, of.stride, of.size, strict=True))
    return tables, (x, y, z)
