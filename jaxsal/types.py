"""The letters of shapes, and the protocols by which the parts of jaxsal meet.

Letters of shapes: X Y Z spatial axes in the order of the NIfTI array, C image channels (MR
sequences), K output channels of the network, B batch, N noise samples, V voxels, W windows. Small
letters x y z are the sizes of a part. Arrays are channels-last: image (X, Y, Z, C), labels
(X, Y, Z) with 0 = background. `jaxsal.arrays` has them as types.

The words, such as window, domain, item and portion, are explained in `jaxsal/README.md`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:  # what only reads files does without JAX, which takes long to import
    import jax

Triple = tuple[int, int, int]
Scale = Literal["diverging", "sequential"]  # colours of maps: from negative to positive, or from 0


class LogitFunction(Protocol):
    """A network as a pure, hashable function of parameters and a batch of images."""

    def __call__(self, parameters: Any, batch: jax.Array) -> jax.Array:
        """Logits (B, X, Y, Z, K) of images (B, X, Y, Z, C); examples do not affect each other."""
        ...

    def __hash__(self) -> int: ...

    @property
    def divisor(self) -> Triple:
        """What each spatial size of a batch must be a multiple of."""
        ...

    @property
    def channels(self) -> int | None:
        """Number C of image channels; None if unknown."""
        ...

    @property
    def smallest_size(self) -> Triple:
        """The smallest spatial size of a batch."""
        ...


class LayeredFunction(LogitFunction, Protocol):
    """A network whose layers are known by name."""

    def with_activations(
        self,
        parameters: Any,
        batch: jax.Array,
        perturbations: Mapping[str, jax.Array] | None = None,
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Logits, and the activations (B, X', Y', Z', C') by layer, to some of which is added."""
        ...
