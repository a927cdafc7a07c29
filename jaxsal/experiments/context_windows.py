"""Windows around lesions in which all beyond so many dilations is hidden."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import ndimage

from jaxsal.box import Box
from jaxsal.errors import InputError
from jaxsal.field.plan import LogitField
from jaxsal.lesions import TOUCHING
from jaxsal.types import Triple

MOST_STEPS = 254
"""Largest number of dilations: distances fit into a byte."""


def dilation_steps(omega: np.ndarray) -> np.ndarray:
    """After how many binary dilations a lesion reaches each voxel.

    By the element of 18 neighbours (faces and edges), as in the published script: d steps reach d
    voxels along an axis, √2 d along a face's diagonal, 1.15 d along a body's.

    Args:
        omega: the lesion (X, Y, Z) bool, not empty.

    Returns:
        (X, Y, Z) uint8, 0 inside; 255 also where it is more than that.
    """
    steps = ndimage.distance_transform_cdt(~omega, metric=TOUCHING)
    return np.minimum(steps, MOST_STEPS + 1).astype(np.uint8)


@dataclass(frozen=True, eq=False)
class LesionWindows:
    """A lesion and the windows that hold it.

    Attributes:
        label: of the lesion.
        voxels: (V, 3) in the image.
        starts: (W, 3) first position of each window in the image; may be negative.
        weights: (V, W) of a window's logits in a voxel's.
        size: of every window.
    """

    label: int
    voxels: np.ndarray
    starts: np.ndarray
    weights: np.ndarray
    size: Triple

    @classmethod
    def of(
        cls,
        field: LogitField,
        labels: np.ndarray,
        label: int,
        window: Triple | None,
    ) -> LesionWindows:
        """The windows of a lesion.

        Args:
            field: how the network is run.
            labels: (X, Y, Z) integers.
            label: of the lesion.
            window: size of the one window; None: the windows of the field that reach the lesion.

        Raises:
            InputError: the label is not in the map, or the lesion is larger than the window.
        """
        voxels = np.argwhere(labels == label)
        if not len(voxels):
            raise InputError(f"the label map has no lesion {label}")
        if window is None:
            x, y, z = labels.shape
            plan = field.layer_plan((x, y, z), voxels)
            starts = plan.starts - plan.before
            return cls(label, voxels, starts, plan.weights, plan.size)
        start = _around(voxels, window, labels.shape)
        if (voxels.max(0) - start >= window).any() or (voxels.min(0) < start).any():
            raise InputError(
                f"lesion {label} spans {tuple(np.ptp(voxels, axis=0) + 1)} voxels, more than the "
                f"window of {window}: choose smaller lesions, or the windows of the field"
            )
        weights = np.ones((len(voxels), 1))
        return cls(label, voxels, start[None], weights, window)

    def distances(self, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """`dilation_steps` in the box of the lesion and its windows, and where the box begins.

        The shortest ways to the lesion stay in that box: values are those in the whole image.
        """
        windows = Box(self.starts.min(0), self.starts.max(0) + self.size)
        box = (windows | Box.around(self.voxels)).clip(labels.shape)
        return dilation_steps(box.cut(labels) == self.label), np.array(box.start)


def _around(voxels: np.ndarray, window: Triple, shape: Sequence[int]) -> np.ndarray:
    """Start (3,) of a window in whose middle voxels lie, moved into the image if it is larger."""
    start = (voxels.min(0) + voxels.max(0) + 1) // 2 - np.array(window) // 2
    spare = np.array(shape) - window
    return np.where(spare >= 0, np.clip(start, 0, np.maximum(spare, 0)), spare // 2)


class WindowPass(NamedTuple):
    """One window with one step's surroundings."""

    lesion: int
    window: int
    step: int  # its place among the steps
    image: jax.Array  # (x, y, z, C)
    distances: jax.Array  # (x, y, z)
    dilations: int
    voxels: np.ndarray  # (room, 3) in the window


def window_passes(
    lesions: Sequence[LesionWindows],
    image: np.ndarray,
    labels: np.ndarray,
    steps: Sequence[int],
    room: int,
) -> Iterator[WindowPass]:
    """Every window with every step's surroundings, lesion by lesion, made when it is asked for.

    Args:
        lesions: to look at.
        image: (X, Y, Z, C), as the network takes it.
        labels: (X, Y, Z) integers.
        steps: numbers of dilations.
        room: number of voxels that a pass has room for.
    """
    for number, lesion in enumerate(lesions):
        distances, first = lesion.distances(labels)
        for window, start in enumerate(lesion.starts):
            place = Box.at(start, lesion.size)
            seen = jnp.asarray(place.cut(image, beyond=0))
            away = jnp.asarray(place.seen_from(first).cut(distances, beyond=MOST_STEPS + 1))
            # Voxels beyond this window have no weight in it: any position serves.
            inside = np.clip(lesion.voxels - start, 0, np.array(lesion.size) - 1)
            voxels = np.zeros((room, 3), np.int32)
            voxels[: len(inside)] = inside
            for step, dilations in enumerate(steps):
                yield WindowPass(number, window, step, seen, away, int(dilations), voxels)
