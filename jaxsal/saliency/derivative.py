"""D of Eqs. 1-3: derivatives of the logits on a window, through the whole window or through boxes.

Both are exact, and both work in two steps: linearise a window once, pull many cotangents back
through it. Parameters are not batched, so that every layer sees one large batch.

- `DenseDerivative` pulls any weighted sum of logits back through the whole window.
- `LocalDerivative` pulls single voxels' logits of a local network back through the boxes that
  they depend on; see `jaxsal.locality`. Its methods mean the same.

They are hashable, so that programs compiled for them are found again.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from jaxsal.locality.boxes import Boxes
from jaxsal.locality.linear import kernels_of, linearise, pull_back
from jaxsal.locality.structure import Structure, structure_of
from jaxsal.types import LogitFunction, Triple


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

    def cotangents(self, points: jax.Array, weights: jax.Array) -> Any:
        """Weighted sums of logits in the form that `pull_back` takes: here (B, X, Y, Z).

        Apart from the pull-back, which is so compiled once for all P.

        Args:
            points: (B, P, 3) voxels within the window.
            weights: (B, P) factor of each voxel's logit.
        """

        def cotangent(points: jax.Array, weights: jax.Array) -> jax.Array:
            x, y, z = points.T
            return jnp.zeros(self.box, weights.dtype).at[x, y, z].add(weights)

        return jax.vmap(cotangent)(points, weights)

    def pull_back(self, prepared: Any, linearised: Any, cotangents: Any) -> jax.Array:
        """Gradients (B, N, *box, C), from what the other methods return."""

        def gradient(cotangent: jax.Array) -> jax.Array:
            return linearised(jnp.broadcast_to(cotangent, (self.samples, *self.box)))[0]

        return jax.vmap(gradient)(cotangents)

    def starts(self, points: np.ndarray) -> np.ndarray:
        """Where in the window (B, 3) the boxes of these points (B, P, 3) begin."""
        return np.zeros((len(points), 3), int)

    def near(self, points: np.ndarray) -> DenseDerivative:
        """The quickest derivative at these points (B, P, 3); its boxes lie inside this one's.

        It takes what this one's `prepare` and `linearise` return.
        """
        return self

    @property
    def largest_cpu_batch(self) -> int:
        """The largest batch that still lowers the time per item on a CPU, by measurement."""
        return 2


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
        return linearise(self.structure, parameters, windows)

    def cotangents(self, points: jax.Array, weights: jax.Array) -> Any:
        return points[:, 0], weights[:, 0]

    def pull_back(self, prepared: Any, linearised: Any, cotangents: Any) -> jax.Array:
        positions, weights = cotangents
        return pull_back(
            self.structure, self.boxes, prepared, linearised, positions, weights, self.target
        )

    def starts(self, points: np.ndarray) -> np.ndarray:
        tables = self.boxes.starts[0]
        return np.stack([table[points[:, 0, axis]] for axis, table in enumerate(tables)], axis=-1)

    def near(self, points: np.ndarray) -> LocalDerivative:
        grid = self.structure.nodes[0].grid
        edges = tuple(
            bool((np.minimum(p, n - 1 - p) < _near_edge(n, size)).all())
            for p, n, size in zip(points[:, 0].T, grid, self.box, strict=True)
        )
        return LocalDerivative(self.structure, _boxes(self.structure, edges), self.target)

    @property
    def largest_cpu_batch(self) -> int:
        return 1


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
