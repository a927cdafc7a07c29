"""Which cells of each layer a voxel's logit depends on.

Along each axis on its own, a range of positions of a node's value is read from a range of
positions of each of its sources; ranges of several readers unite. On a window, the boxes of all
voxels are given one size per node, the largest that occurs, so that one compiled program serves
them all; near an edge a box is moved inside the window.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxsal.box import Box
from jaxsal.locality.structure import Kernel, Node, Structure, structure_of
from jaxsal.types import LogitFunction, Triple


def receptive_field(
    function: LogitFunction, parameters: Any, outputs: Box, layer: str | None = None
) -> Box | None:
    """The image positions that these output positions depend on, as if images had no edges.

    None if these are all positions, or if nothing is known about the network.

    Args:
        function: the network.
        parameters: its first argument.
        outputs: box of output positions, not empty.
        layer: positions of this layer, of a `jaxsal.types.LayeredFunction`, instead of the image.
    """
    if function.channels is None:
        return None
    smallest = (1, *function.smallest_size, function.channels)
    structure = structure_of(function, parameters, smallest, layer)
    if structure is None:
        return None
    node = structure.layer or 0
    ends = zip(outputs.start, outputs.stop, strict=True)
    axes = [
        _ranges(structure, axis, np.array([start]), np.array([stop - 1]))[node]
        for axis, (start, stop) in enumerate(ends)
    ]
    return Box([first[0] for first, _ in axes], [last[0] + 1 for _, last in axes])


@dataclass(frozen=True)
class Extraction:
    """A box cut from another array, along one axis: where it begins, for each voxel position.

    Attributes:
        offsets: (P,) relative to the array that it is cut from; it may begin before that.
        size: of the box.
        source: size of the array.
    """

    offsets: np.ndarray
    size: int
    source: int

    @property
    def low(self) -> int:
        """Zeros needed before the array so that no box begins before it."""
        return max(0, -int(self.offsets.min()))

    @property
    def high(self) -> int:
        """Zeros needed after the array so that no box ends after it."""
        return max(0, int(self.offsets.max()) + self.size - self.source)


class Boxes:
    """The boxes of single voxels on a window.

    Args:
        structure: of the network.
        allowed: per axis (P,) bool, the voxel positions to serve; None: all. Fewer positions may
            need smaller boxes: near an edge of the window there is less to reach.

    Attributes:
        allowed: per axis (P,) bool, the voxel positions that are served.
        sizes: box size of each node.
        starts: per node and axis (P,) where the box begins in the node's grid, by voxel position.
    """

    def __init__(self, structure: Structure, allowed: Sequence[np.ndarray] | None = None) -> None:
        window = structure.nodes[0].grid
        self._nodes = structure.nodes
        self.allowed = allowed or [np.ones(n, bool) for n in window]
        sizes, starts = zip(*(self._axis(structure, axis) for axis in range(3)), strict=True)
        self.sizes: list[Triple] = list(zip(*sizes, strict=True))
        self.starts: list[tuple[np.ndarray, ...]] = list(zip(*starts, strict=True))

    def _axis(self, structure: Structure, axis: int) -> tuple[list[int], list[np.ndarray]]:
        positions = np.arange(structure.nodes[0].grid[axis])
        sizes, starts = [], []
        ranges = _ranges(structure, axis, positions, positions, clipped=True)
        for node, (first, last) in zip(structure.nodes, ranges, strict=True):
            grid = node.grid[axis]
            size = min(int((last - first)[self.allowed[axis]].max()) + 1, grid)
            sizes.append(size)
            starts.append(np.clip(first, 0, grid - size))
        return sizes, starts

    def cut(self, node: int, index: int) -> tuple[Extraction, Extraction, Extraction]:
        """Where the box of a node's source lies in what the node's box is pulled back to.

        For a transposed convolution: where the buffer that it is pulled back from lies in the
        node's box. See `jaxsal.locality.linear`.
        """
        here, source = self._nodes[node], self._nodes[node].sources[index].node
        x, y, z = (
            self._cut(here.kernel, node, source, axis, self.allowed[axis]) for axis in range(3)
        )
        return x, y, z

    def _cut(
        self, kernel: Kernel | None, node: int, source: int, axis: int, allowed: np.ndarray
    ) -> Extraction:
        n, start = self.sizes[node][axis], self.starts[node][axis]
        m, source_start = self.sizes[source][axis], self.starts[source][axis]
        if kernel is None:
            offsets, size, length = source_start - start, m, n
        else:
            k, s, p = kernel.size[axis], kernel.stride[axis], kernel.padding[axis]
            if kernel.transposed:
                offsets, size, length = source_start * s - p - start, (m - 1) * s + k, n
            else:
                offsets, size, length = source_start - (start * s - p), m, (n - 1) * s + k
        return Extraction(np.where(allowed, offsets, offsets[allowed][0]), size, length)


Range = tuple[np.ndarray, np.ndarray]


def _ranges(
    structure: Structure,
    axis: int,
    first: np.ndarray,
    last: np.ndarray,
    *,
    clipped: bool = False,
) -> list[Range]:
    """First and last position (P,) of every node along an axis that outputs first … last need."""
    ranges: list[Range | None] = [None] * len(structure.nodes)
    ranges[structure.logits.node] = first, last
    for index in reversed(range(len(structure.nodes))):
        node, mine = structure.nodes[index], ranges[index]
        if mine is None:  # nothing reads it
            continue
        for source in node.sources:
            needed = _needed(node, axis)(*mine)
            if clipped:
                end = structure.nodes[source.node].grid[axis] - 1
                needed = np.clip(needed[0], 0, end), np.clip(needed[1], 0, end)
            other = ranges[source.node] or needed
            ranges[source.node] = np.minimum(needed[0], other[0]), np.maximum(needed[1], other[1])
    unread = np.zeros_like(first), np.zeros_like(first)
    return [unread if found is None else found for found in ranges]


def _needed(node: Node, axis: int) -> Callable[[np.ndarray, np.ndarray], Range]:
    if node.kernel is None:
        return lambda first, last: (first, last)
    k, s = node.kernel.size[axis], node.kernel.stride[axis]
    p = node.kernel.padding[axis]
    if node.kernel.transposed:
        return lambda first, last: (-((k - 1 - p - first) // s), (last + p) // s)
    return lambda first, last: (first * s - p, last * s - p + k - 1)
