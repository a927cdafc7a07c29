"""D of Eqs. 1-3: derivatives of the logits on a window, through the whole window or through boxes.

Both are exact, and both work in two steps: linearise a window once, pull many cotangents back
through it. Parameters are not batched, so that every layer sees one large batch. All methods but
`edges`, `starts` and `near` are traced, in the programs of `jaxsal.saliency.programs`.

- `DenseDerivative` pulls any weighted sum of logits back through the whole window.
- `LocalDerivative` pulls single voxels' logits of a local network back through the boxes that
  they depend on; see `jaxsal.locality`. Its methods mean the same.

They are hashable, so that programs compiled for them are found again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from jaxsal.current_device import current_device
from jaxsal.locality.boxes import Boxes
from jaxsal.locality.linear import kernels_of, linearise, pull_back
from jaxsal.locality.structure import Structure, structure_of
from jaxsal.types import LogitFunction, Triple

if TYPE_CHECKING:
    from jaxsal.saliency.books import Book


@dataclass(frozen=True)
class DenseDerivative:
    """The pull-back through the whole window, of any network.

    Attributes:
        function: the network.
        target: output channel.
        samples: N, number of windows that are linearised together.
        box: size of the boxes on which gradients are returned, here of the window.
    """

    function: LogitFunction
    target: int
    samples: int
    box: Triple

    def prepare(self, parameters: Any) -> Any:
        """Arrays that `pull_back` needs, computed once from the parameters."""
        return ()

    def linearise(self, parameters: Any, windows: jax.Array) -> Any:
        """The derivative at these windows (N, X, Y, Z, C), as arrays."""

        def logits(windows: jax.Array) -> jax.Array:
            values = jnp.take(self.function(parameters, windows), self.target, axis=-1)
            return values.astype(jnp.float32)

        return jax.vjp(logits, windows)[1]  # a function, but also a pytree of arrays

    def cotangents(self, book: Book, batch: jax.Array) -> Any:
        """Weighted sums of logits in the form that `pull_back` takes: here (B, X, Y, Z).

        Points are added block by block, so that programs do not depend on how many there are.

        Args:
            book: one device's.
            batch: number of a batch in it.
        """

        def add(block: jax.Array, cotangents: jax.Array) -> jax.Array:
            rows, x, y, z = book.points[block].T
            return cotangents.at[rows, x, y, z].add(book.weights[block])

        zeros = jnp.zeros((book.slots.shape[1], *self.box), jnp.float32)
        first, stop = book.blocks[batch]
        return jax.lax.fori_loop(first, stop, add, zeros)

    def cotangent_shapes(self, batch: int) -> Any:
        """The shapes of the cotangents of so many items."""
        return jax.ShapeDtypeStruct((batch, *self.box), jnp.float32)

    def pull_back(self, prepared: Any, linearised: Any, cotangents: Any) -> jax.Array:
        """Gradients (B, N, *box, C), from what the other methods return."""

        def gradient(cotangent: jax.Array) -> jax.Array:
            return linearised(jnp.broadcast_to(cotangent, (self.samples, *self.box)))[0]

        return jax.vmap(gradient)(cotangents)

    def edges(self, points: np.ndarray) -> np.ndarray:
        """Along which axes (B, 3) these points (B, 3) are so near an edge that it pays to know."""
        return np.zeros((len(points), 3), bool)

    def starts(self, points: np.ndarray) -> np.ndarray:
        """Where in the window (B, 3) the boxes of these points (B, 3) begin."""
        return np.zeros((len(points), 3), int)

    def near(self, edges: tuple[bool, ...]) -> DenseDerivative:
        """The quickest derivative at points of these `edges`; its boxes lie inside this one's.

        It takes what this one's `prepare` and `linearise` return.
        """
        return self

    @property
    def mixes_windows(self) -> bool:
        """Whether items of several windows, in their `slots`, can be pulled back together."""
        return False

    @property
    def largest_cpu_batch(self) -> int:
        """The largest batch that still lowers the time per item on a CPU, by measurement."""
        return 1  # of the paper's nnU-Net on a window of 64, one core: 255 ms, in pairs 347 each


@dataclass(frozen=True)
class LocalDerivative:
    """The pull-back through boxes, of single voxels' logits (P = 1) of a local network.

    Attributes:
        structure: of the network on N windows.
        boxes: on these windows.
        target: output channel.
    """

    structure: Structure
    boxes: Boxes
    target: int

    @property
    def box(self) -> Triple:
        return self.boxes.sizes[0]

    def prepare(self, parameters: Any) -> Any:
        return kernels_of(self.structure, parameters)

    def linearise(self, parameters: Any, windows: jax.Array) -> Any:
        slopes = linearise(self.structure, parameters, windows)
        return tuple(slope[None] for slope in slopes)  # one slot

    def cotangents(self, book: Book, batch: jax.Array) -> Any:
        return book.slots[batch], book.points[batch, :, 1:], book.weights[batch]

    def cotangent_shapes(self, batch: int) -> Any:
        integers = (jax.ShapeDtypeStruct(shape, jnp.int32) for shape in ((batch,), (batch, 3)))
        return *integers, jax.ShapeDtypeStruct((batch,), jnp.float32)

    def pull_back(self, prepared: Any, linearised: Any, cotangents: Any) -> jax.Array:
        slots, positions, weights = cotangents
        return pull_back(
            self.structure,
            self.boxes,
            prepared,
            linearised,
            slots,
            positions,
            weights,
            self.target,
        )

    def edges(self, points: np.ndarray) -> np.ndarray:
        if current_device().platform == "tpu":  # smaller boxes fill no fewer tiles
            return np.zeros((len(points), 3), bool)
        grid = np.array(self.structure.nodes[0].grid)
        near = [_near_edge(n, size) for n, size in zip(grid.tolist(), self.box, strict=True)]
        return np.minimum(points, grid - 1 - points) < near

    def starts(self, points: np.ndarray) -> np.ndarray:
        tables = self.boxes.starts[0]
        return np.stack([table[points[:, axis]] for axis, table in enumerate(tables)], axis=-1)

    def near(self, edges: tuple[bool, ...]) -> LocalDerivative:
        return LocalDerivative(self.structure, _boxes(self.structure, edges), self.target)

    @property
    def mixes_windows(self) -> bool:
        return True

    @property
    def largest_cpu_batch(self) -> int:
        avals: list[Any] = [node.variable.aval for node in self.structure.nodes]
        sizes = zip(self.boxes.sizes, avals, strict=True)
        values = sum(math.prod(size) * aval.shape[-1] for size, aval in sizes)
        return 1 << (min(max(_CACHE_BYTES // (4 * values), 1), 32).bit_length() - 1)


# On two cores, 32³ windows: a pull-back of a U-Net of 2 and 4 channels takes 0.4 ms of processor
# time alone and 0.04 in a batch of 32; one of 8, 16, 32 channels 1.1 ms alone and 0.25 in one of 8.
_CACHE_BYTES = 2**20

Derivative: TypeAlias = DenseDerivative | LocalDerivative


def derivative_of(
    function: LogitFunction,
    parameters: Any,
    target: int,
    windows: tuple[int, ...],
    *,
    single: bool,
) -> Derivative:
    """The faster derivative that is exact.

    Args:
        function: the network.
        parameters: its first argument.
        target: output channel.
        windows: shape (N, X, Y, Z, C).
        single: whether logits of single voxels will be pulled back, rather than sums.
    """
    # A callable's own compiled functions would remember being traced for their structure.
    known = single and function.channels is not None
    structure = structure_of(function, parameters, windows) if known else None
    if structure is None:
        samples, x, y, z, _ = windows
        return DenseDerivative(function, target, samples, (x, y, z))
    return LocalDerivative(structure, _boxes(structure), target)


def _near_edge(window: int, box: int) -> int:
    """Up to this far from an edge of a window voxels get smaller boxes.

    A quarter of the window: with the usual overlap, a voxel that two windows share is as near as
    that to an edge of both. 0 where boxes are as large as the window, or small in any case.
    """
    return window // 4 if window // 2 < box < window else 0


@lru_cache(maxsize=64)
def _boxes(structure: Structure, near: tuple[bool, ...] = (False,) * 3) -> Boxes:
    """Boxes for all voxels; or, along some axes, for those near an edge of the window."""
    grid = structure.nodes[0].grid
    whole = Boxes(structure).sizes[0]
    allowed = []
    for size, box, edge in zip(grid, whole, near, strict=True):
        positions = np.arange(size)
        distance = np.minimum(positions, size - 1 - positions)
        allowed.append(distance < _near_edge(size, box) if edge else distance >= 0)
    return Boxes(structure, allowed)
