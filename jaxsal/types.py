"""The letters, the words and the protocols by which the parts of jaxsal meet.

Letters of shapes: X Y Z spatial axes in the order of the NIfTI array, C image channels (MR
sequences), K output channels of the network, B batch, N noise samples, V voxels, W windows. Small
letters x y z are the sizes of a part. Arrays are channels-last: image (X, Y, Z, C), labels
(X, Y, Z) with 0 = background. `jaxsal.arrays` has them as types.

Words:

- A *voxel* is a position of the image's grid, a *cell* one of a layer's. *Position* serves both.
- A *box* is all positions between two corners of a grid: `jaxsal.box.Box`.
- A *window* is the box of the image, padded with zeros, that one pass of the network sees.
- A *domain* is the set of voxels whose logits one map explains: a lesion, or at class level all
  segmented voxels together (Ω in the paper).
- The *reach* of an output, its receptive field, is the smallest box of the image, or of a layer,
  that it depends on. Normalisation over positions makes it endless; it is then None.
- A *cotangent* weighs the logits of a window. *Pulling it back* gives the gradient of the logits'
  sum, so weighted, with respect to the window.
- An *item* is one such sum: the logit of a single voxel for a signed maximum, the sum over a whole
  lesion for a mean or a sum. It is pulled back through every window that contains its voxels.
- A *batch* is the items, times the noise samples, that are pulled back at once.
- A *frame* is a box of the image that holds the gradients of a lesion's items; its size is rounded
  up, so that lesions share compiled programs. A *crop* is a finished map on its box.
- A *portion* is the lesions of a scan that are computed together and recorded together.
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
