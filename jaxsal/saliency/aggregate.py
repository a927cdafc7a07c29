"""Aggregation of single-voxel gradients over a lesion domain.

The signed maximum (Spagnolo et al. 2026, Eq. 3) keeps, at every position, the gradient of largest
absolute value with its sign. It is associative and, with ties decided for the positive one,
commutative: any order and any grouping of voxels gives the same map, and 0 is neutral.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np


def signed_maximum(a: jax.Array, b: jax.Array) -> jax.Array:
    """Of two values the one of larger magnitude; of equal magnitudes the positive one.

    Not a number stays not a number.
    """
    larger = jnp.where(jnp.abs(a) > jnp.abs(b), a, b)
    either = jnp.maximum(a, b)  # the positive one of equals, and NaN if one of them is
    return jnp.where((jnp.abs(a) == jnp.abs(b)) | jnp.isnan(either), either, larger)


@partial(jax.jit, donate_argnums=0)
def place(frames: jax.Array, gradients: jax.Array, offset: jax.Array) -> jax.Array:
    """Adds gradients of one window (B, N, x, y, z, C) into frames (B, N, X, Y, Z, C) at (3,)."""
    corner = (0, 0, offset[0], offset[1], offset[2], 0)
    current = jax.lax.dynamic_slice(frames, corner, gradients.shape)
    return jax.lax.dynamic_update_slice(frames, current + gradients, corner)


@partial(jax.jit, donate_argnums=0)
def accumulate(maxima: jax.Array, gradients: jax.Array, slots: jax.Array) -> jax.Array:
    """Signed maxima of several lesions, updated with the gradients of a batch of voxels.

    Args:
        maxima: (S, N, X, Y, Z, C), one slot per lesion.
        gradients: (B, N, X, Y, Z, C).
        slots: (B,) the slot of each voxel's lesion.
    """

    def update(index: int, maxima: jax.Array) -> jax.Array:
        slot = slots[index]
        return maxima.at[slot].set(signed_maximum(maxima[slot], gradients[index]))

    return jax.lax.fori_loop(0, gradients.shape[0], update, maxima)


class LesionSum:
    """The map of one lesion, summed over noise samples, on a box of the image.

    Contributions arrive on frames, boxes that may reach beyond this one, for several noise
    samples at once. They are combined within a sample by signed maximum (or added), and the
    samples' maps are then added in the order of the samples, so that the result does not depend
    on how many were computed at once.

    Args:
        low: first position (3,) of the box in the image.
        high: one past the last.
        channels: C.
    """

    def __init__(self, low: np.ndarray, high: np.ndarray, channels: int) -> None:
        self.low, self.high = low, high
        self.total = np.zeros((*(high - low), channels), np.float32)
        self._samples: np.ndarray | None = None

    def combine_maximum(self, frame: np.ndarray, origin: np.ndarray) -> None:
        """Takes the signed maximum with a frame (N, X, Y, Z, C) that begins at this position."""
        mine, theirs = self._overlap(frame, origin)
        bigger = np.abs(theirs) > np.abs(mine)  # false where mine is NaN, which stays
        bigger |= ((theirs > mine) & (theirs == -mine)) | np.isnan(theirs)
        np.copyto(mine, theirs, where=bigger)

    def combine_sum(self, frame: np.ndarray, origin: np.ndarray) -> None:
        """Adds a frame (N, X, Y, Z, C) that begins at this position."""
        mine, theirs = self._overlap(frame, origin)
        mine += theirs

    def finish_samples(self) -> None:
        """Adds the current noise samples' maps to the sum and makes room for the next."""
        if self._samples is not None:
            for sample in self._samples:
                self.total += sample
        self._samples = None

    def _overlap(self, frame: np.ndarray, origin: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if self._samples is None:
            self._samples = np.zeros((frame.shape[0], *self.total.shape), np.float32)
        low = np.maximum(self.low, origin)
        high = np.minimum(self.high, origin + np.array(frame.shape[1:4]))
        mine = tuple(slice(a, b) for a, b in zip(low - self.low, high - self.low, strict=True))
        theirs = tuple(slice(a, b) for a, b in zip(low - origin, high - origin, strict=True))
        return self._samples[(slice(None), *mine)], frame[(slice(None), *theirs)]
