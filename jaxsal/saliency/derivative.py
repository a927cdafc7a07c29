"""How the logits on a window are differentiated: through the whole window, or through boxes.

Both are exact, and both work in two steps: linearise a window once, pull many cotangents back
through it. Parameters are not batched, so that every layer sees one large batch.

- `DenseDerivative` pulls any weighted sum of logits back through the whole window.
- `LocalDerivative` pulls single voxels' logits of a local network back through the boxes that
  they depend on; see `jaxsal.locality`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from jaxsal.locality import (
    Boxes,
    Structure,
    kernels_of,
    linearise,
    pull_back,
    structure_of,
)
from jaxsal.types import LogitFunction, Triple


class Derivative(Protocol):
    """Hashable, so that programs compiled for it are found again."""

    def __hash__(self) -> int: ...

    @property
    def box(self) -> Triple:
        """Size of the boxes on which gradients are returned."""
        ...

    def prepare(self, parameters: Any) -> Any:
        """What `pull_back` needs of the parameters: arrays, computed once."""
        ...

    def linearise(self, parameters: Any, windows: jax.Array) -> Any:
        """The derivative at these windows (N, X, Y, Z, C), as arrays."""
        ...

    def cotangents(self, points: jax.Array, weights: jax.Array) -> Any:
        """Weighted sums of logits in the form that `pull_back` takes; arrays begin with B.

        Args:
            points: (B, P, 3) voxels within the window.
            weights: (B, P) factor of each voxel's logit.
        """
        ...

    def pull_back(self, prepared: Any, linearised: Any, cotangents: Any) -> jax.Array:
        """Gradients (B, N, *box, C).

        Args:
            prepared: from `prepare`.
            linearised: from `linearise`, at N windows.
            cotangents: from `cotangents`.
        """
        ...

    def starts(self, points: np.ndarray) -> np.ndarray:
        """Where in the window (B, 3) the box begins for these points (B, P, 3)."""
        ...


@dataclass(frozen=True)
class DenseDerivative:
    """The pull-back through the whole window, of any network.

    Attributes:
        function: the network.
        target: output channel.
        samples: N, number of windows that are linearised together.
        box: size of the window.
    """

    function: LogitFunction
    target: int
    samples: int
    box: Triple

    def prepare(self, parameters: Any) -> Any:
        return ()

    def linearise(self, parameters: Any, windows: jax.Array) -> Any:
        def logits(windows: jax.Array) -> jax.Array:
            return jnp.take(self.function(parameters, windows), self.target, axis=-1)

        return jax.vjp(logits, windows)[1]  # a function, but also a pytree of arrays

    def cotangents(self, points: jax.Array, weights: jax.Array) -> Any:
        """(B, X, Y, Z): apart from the pull-back, which so is compiled once for every P."""

        def cotangent(points: jax.Array, weights: jax.Array) -> jax.Array:
            x, y, z = points.T
            return jnp.zeros(self.box, weights.dtype).at[x, y, z].add(weights)

        return jax.vmap(cotangent)(points, weights)

    def pull_back(self, prepared: Any, linearised: Any, cotangents: Any) -> jax.Array:
        def gradient(cotangent: jax.Array) -> jax.Array:
            return linearised(jnp.broadcast_to(cotangent, (self.samples, *self.box)))[0]

        return jax.vmap(gradient)(cotangents)

    def starts(self, points: np.ndarray) -> np.ndarray:
        return np.zeros((len(points), 3), int)


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
    structure = structure_of(function, parameters, windows) if single else None
    if structure is None:
        samples, x, y, z, _ = windows
        return DenseDerivative(function, target, samples, (x, y, z))
    return LocalDerivative(structure, _boxes(structure), target)


@lru_cache(maxsize=64)
def _boxes(structure: Structure) -> Boxes:
    return Boxes(structure)
