"""The whole volume as one input of the network."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsal.field.network import image_shape, model_parts, window_logits
from jaxsal.field.plan import WindowPlan, pad, unpad, zeros_before
from jaxsal.types import LogitFunction, Reach, Triple


def whole_volume(model: Any) -> WholeVolume:
    """The network run once over the whole volume.

    The image is padded with zeros, on both sides alike, to the next multiple of the network's
    total stride, and the logits are cropped back.

    Args:
        model: a `jaxsal.Model`, or any callable from images (B, X, Y, Z, C) to logits
            (B, X, Y, Z, K). A callable must be pure: it is compiled once, with the weights that
            it holds then.
    """
    return WholeVolume(*model_parts(model))


@dataclass(frozen=True, eq=False)
class WholeVolume:
    """See `whole_volume`."""

    function: LogitFunction
    parameters: Any
    threshold: float | None = None

    def __call__(self, image: jax.Array) -> jax.Array:
        shape = image_shape(self.function, image)
        before, padded = self._padding(shape)
        image = pad(jnp.asarray(image), before, padded)
        logits = window_logits(self.function, self.parameters, image, (0, 0, 0), padded)
        return unpad(logits, before, shape)

    def plan(self, shape: Triple, voxels: np.ndarray, *, together: bool = False) -> WindowPlan:
        before, padded = self._padding(shape)
        voxels = np.asarray(voxels) + before
        if together:
            size = self._joint_size(voxels, padded)
            starts = self._starts(voxels.min(0)[None], size, padded)
            owner = np.zeros(len(voxels), int)
        else:
            size = _at_most(self._crop, padded)
            starts, owner = np.unique(
                self._starts(voxels, size, padded), axis=0, return_inverse=True
            )
        weights = np.zeros((len(voxels), len(starts)), np.float32)
        weights[np.arange(len(voxels)), owner.reshape(-1)] = 1
        return WindowPlan(shape, before, padded, size, starts, weights, size, self.function.reach)

    def _padding(self, shape: Triple) -> tuple[Triple, Triple]:
        divisor = self.function.divisor
        x, y, z = (-(-n // d) * d for n, d in zip(shape, divisor, strict=True))
        return zeros_before(shape, (x, y, z)), (x, y, z)

    @cached_property
    def _crop(self) -> Triple | None:
        """The smallest aligned window in which every voxel's receptive field fits; None if none.

        On such a window the network computes a voxel's logit from the same numbers as on the
        whole volume: its edges either are the volume's, or lie outside the receptive field.
        """
        divisor = np.array(self.function.divisor)
        extents = []
        for position in range(int(divisor.max())):
            box = self.function.reach(Reach(np.full(3, position), np.full(3, position)))
            if box is None:
                return None
            first = box.first // divisor * divisor
            extents.append(-((first - box.last - 1) // divisor) * divisor)
        x, y, z = np.max(extents, axis=0).tolist()
        return x, y, z

    def _joint_size(self, voxels: np.ndarray, padded: Triple) -> Triple:
        """A window for all these voxels: a little larger than one voxel's, or the volume."""
        if self._crop is None:
            return padded
        divisor = np.array(self.function.divisor)
        room = np.minimum(np.array(self._crop) + 2 * divisor, padded)
        box = self.function.reach(Reach(voxels.min(0), voxels.max(0)))
        assert box is not None  # as the crop is finite
        first = np.maximum(box.first, 0) // divisor * divisor
        fits = (np.minimum(box.last + 1, padded) - first <= room).all()
        x, y, z = room.tolist() if fits else padded
        return x, y, z

    def _starts(self, voxels: np.ndarray, size: Triple, padded: Triple) -> np.ndarray:
        """Aligned start (V, 3) of the window for each voxel (V, 3), moved inside the volume."""
        divisor = np.array(self.function.divisor)
        offset = voxels % divisor
        first = voxels - offset
        if self._crop is not None:
            first = first + self._reach_offsets[offset, [0, 1, 2]]
        return np.clip(first // divisor * divisor, 0, np.array(padded) - size)

    @cached_property
    def _reach_offsets(self) -> np.ndarray:
        """(D, 3) first position that the logit at 0 … D - 1 of each axis depends on."""
        positions = range(max(self.function.divisor))
        boxes = [self.function.reach(Reach(np.full(3, p), np.full(3, p))) for p in positions]
        return np.array([box.first for box in boxes if box is not None])


def _at_most(size: Triple | None, limit: Triple) -> Triple:
    if size is None:
        return limit
    x, y, z = (min(n, m) for n, m in zip(size, limit, strict=True))
    return x, y, z
