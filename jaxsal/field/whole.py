"""The whole volume as one input of the network."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np

from jaxsal.box import Box
from jaxsal.field.network import ModelParts, logits_on, model_parts
from jaxsal.field.plan import WindowPlan, image_shape, pad, unpad, zeros_before
from jaxsal.locality.boxes import receptive_field
from jaxsal.types import Triple

if TYPE_CHECKING:
    from jaxsal.arrays import Image, Logits


def whole_volume(model: Any) -> WholeVolume:
    """The network run once over the whole volume.

    The image is padded with zeros, on both sides alike, to the next multiple of the network's
    total stride, and the logits are cropped back.

    Args:
        model: a `jaxsal.Model`, or any callable from images (B, X, Y, Z, C) to logits
            (B, X, Y, Z, K). A callable must be pure: it is compiled once, with the weights that
            it holds then.
    """
    return WholeVolume(**vars(model_parts(model)))


@dataclass(frozen=True, eq=False, repr=False)
class WholeVolume(ModelParts):
    """See `whole_volume`."""

    def __repr__(self) -> str:
        return f"WholeVolume({self.function})"

    def __call__(self, image: Image) -> Logits:
        shape = image_shape(self.function, image)
        before, padded = self._padding(shape)
        image = pad(jnp.asarray(image), before, padded)
        logits = logits_on(self.function, self.parameters, image)
        return unpad(logits, before, shape)

    def plan(self, shape: Triple, voxels: np.ndarray) -> WindowPlan:
        before, padded = self._padding(shape)
        voxels = np.asarray(voxels) + before
        x, y, z = (min(n, m) for n, m in zip(self._window or padded, padded, strict=True))
        size = x, y, z
        starts, owner = np.unique(self._starts(voxels, size, padded), axis=0, return_inverse=True)
        weights = np.zeros((len(voxels), len(starts)), np.float32)
        weights[np.arange(len(voxels)), owner.reshape(-1)] = 1
        return WindowPlan(shape, before, padded, size, starts, weights, self._reach)

    def layer_plan(self, shape: Triple, voxels: np.ndarray) -> WindowPlan:
        before, padded = self._padding(shape)
        starts, weights = np.zeros((1, 3), int), np.ones((len(voxels), 1), np.float32)
        return WindowPlan(shape, before, padded, padded, starts, weights, self._reach)

    def share(self, plan: WindowPlan, window: int) -> None:
        return None

    def _padding(self, shape: Triple) -> tuple[Triple, Triple]:
        divisor = self.function.divisor
        x, y, z = (-(-n // d) * d for n, d in zip(shape, divisor, strict=True))
        return zeros_before(shape, (x, y, z)), (x, y, z)

    def _reach(self, outputs: Box) -> Box | None:
        return receptive_field(self.function, self.parameters, outputs)

    @cached_property
    def _single_reaches(self) -> list[Box] | None:
        """What the logit at (p, p, p) depends on, for p = 0 … D - 1; None if on everything."""
        reaches = []
        for position in range(max(self.function.divisor)):
            reach = self._reach(Box.at(3 * (position,), (1, 1, 1)))
            if reach is None:
                return None
            reaches.append(reach)
        return reaches

    @cached_property
    def _window(self) -> Triple | None:
        """An aligned window in which the receptive field of any voxel fits; None if none.

        On such a window the network computes a voxel's logit from the same numbers as on the
        whole volume: its edges either are the volume's, or lie outside the receptive field. It is
        one stride larger than the smallest, so that fewer windows serve a lesion.
        """
        if self._single_reaches is None:
            return None
        divisor = np.array(self.function.divisor)
        extents = [
            -((reach.start // divisor * divisor - reach.stop) // divisor) * divisor
            for reach in self._single_reaches
        ]
        x, y, z = (np.max(extents, axis=0) + divisor).tolist()
        return x, y, z

    def _starts(self, voxels: np.ndarray, size: Triple, padded: Triple) -> np.ndarray:
        """Aligned start (V, 3) of the window for each voxel (V, 3), moved inside the volume."""
        if self._single_reaches is None:
            return np.zeros_like(voxels)
        divisor = np.array(self.function.divisor)
        firsts = np.array([reach.start for reach in self._single_reaches])
        offset = voxels % divisor
        first = voxels - offset + firsts[offset, [0, 1, 2]]
        return np.clip(first // (2 * divisor) * (2 * divisor), 0, np.array(padded) - size)
