"""Heat maps on a layer's grid, and how they come to the image's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING

import numpy as np

from jaxsal.box import Box
from jaxsal.errors import InputError
from jaxsal.saliency.maps import CLASS_LEVEL, Crop

if TYPE_CHECKING:
    from jaxsal.arrays import HeatMap, LayerMap
    from jaxsal.locality.places import Places
    from jaxsal.saliency.gradcam.diagonals import Diagonals
    from jaxsal.types import Triple


@dataclass(frozen=True)
class LayerDerivatives:
    """Derivatives of a domain's summed logits along every unit vector of a layer, in a box.

    Outside of the box they are zero.

    Attributes:
        origin: first position of the box in the layer.
        first: (x, y, z, K) float32, g.
        diagonals: h and t; None if they are zero everywhere, or not asked for (closed form).
    """

    origin: Triple
    first: np.ndarray
    diagonals: Diagonals | None = None


@dataclass(frozen=True)
class WindowMap:
    """The heat map of a domain on one window that the network ran on.

    Attributes:
        inside: (x, y, z) float32, in a box of the layer; outside of it the map is zero.
        start: the box's first position in the layer.
        grid: of the layer.
        origin: position in the image of the window's first voxel; negative in the padding.
        size: of the window in voxels.
        share: (X, Y, Z) of the window in the blend of all windows; None if it is the only one.
        derivatives: what the map was computed from, if they were to be kept.
        places: where cells lie in the window; None: they divide it evenly.
    """

    inside: np.ndarray = field(repr=False)
    start: Triple
    grid: Triple
    origin: Triple
    size: Triple
    share: np.ndarray | None = field(default=None, repr=False)
    derivatives: LayerDerivatives | None = field(default=None, repr=False)
    places: Places | None = None

    @property
    def values(self) -> np.ndarray:
        """The map on the layer's grid: (x, y, z) float32."""
        return Box.at(self.start, self.inside.shape).place(self.inside, self.grid)

    def on_image(self, shape: Triple) -> tuple[np.ndarray, Box] | None:
        """Where the map is not zero, on the image's grid, by trilinear interpolation.

        Positions outside the places of the outermost cells take these cells' values, as in
        PyTorch's ``interpolate``. Where a cell takes part that is not finite, the map is NaN.

        Returns:
            Values (x, y, z), times the window's share, and the box of the image that they are of;
            None if the map is zero in the image.
        """
        box = []
        broken = ~np.isfinite(self.inside)
        values = np.where(broken, 0, self.inside)  # 0 · NaN would be NaN
        for axis, cells in enumerate(self.inside.shape):
            weights = self._interpolation(axis)[:, self.start[axis] : self.start[axis] + cells]
            others = tuple(a for a in range(3) if a != axis)
            reached = np.flatnonzero(weights @ self.inside.any(others))
            place = reached + self.origin[axis]
            reached = reached[(place >= 0) & (place < shape[axis])]
            if not len(reached):
                return None
            rows = slice(int(reached[0]), int(reached[-1]) + 1)
            box.append(rows)
            values = _along(axis, weights[rows], values)
            if broken.any():
                broken = _along(axis, weights[rows] > 0, broken)
        values = np.where(broken, np.float32(np.nan), values) if broken.any() else values
        if self.share is not None:
            values = values * self.share[tuple(box)]
        at = Box.at([rows.start for rows in box], values.shape)
        return values, at.shift(self.origin)

    def _interpolation(self, axis: int) -> np.ndarray:
        size, cells = self.size[axis], self.grid[axis]
        if self.places is None:
            return interpolation(size, cells, size / cells, (size / cells - 1) / 2)
        return interpolation(size, cells, self.places.step[axis], self.places.offset[axis])


def _along(axis: int, matrix: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The product of a matrix with an array along one of its axes."""
    return np.moveaxis(np.tensordot(matrix, values, (1, axis)), 0, axis)


def interpolation(size: int, cells: int, step: float, offset: float) -> np.ndarray:
    """The matrix (size, cells) float32 of linear interpolation from cells along an axis.

    Args:
        size: number of positions, 0 … size - 1.
        cells: number of cells, of which i lies at ``step * i + offset``.
        step: from a cell to the next one.
        offset: position of the first cell; it may be negative.
    """
    place = np.clip((np.arange(size) - offset) / step, 0, cells - 1)
    below = np.floor(place).astype(int)
    above = np.minimum(below + 1, cells - 1)
    matrix = np.zeros((size, cells))
    np.add.at(matrix, (np.arange(size), below), 1 - (place - below))
    np.add.at(matrix, (np.arange(size), above), place - below)
    return matrix.astype(np.float32)


@dataclass(frozen=True)
class HeatMaps:
    """One heat map per lesion, zero or positive.

    Attributes:
        parts: by label, the map on each window that the lesion's logits come from; a class-level
            map has the label 0.
        shape: the image's grid (X, Y, Z).
    """

    parts: Mapping[int, tuple[WindowMap, ...]] = field(repr=False)
    shape: Triple

    @property
    def labels(self) -> tuple[int, ...]:
        """The labels that have a map, in increasing order."""
        return tuple(sorted(self.parts))

    def windows(self, label: int = CLASS_LEVEL) -> tuple[WindowMap, ...]:
        """The map on each window that the lesion's logits come from.

        Raises:
            InputError: there is no map of this label.
        """
        if label not in self.parts:
            raise InputError(f"no map of label {label}; there are maps of {list(self.labels)}")
        return self.parts[label]

    def native(self, label: int = CLASS_LEVEL) -> LayerMap:
        """The map of a lesion on the layer's grid: (x, y, z) float32.

        Raises:
            InputError: there is no map of this label, or the lesion lies in several windows, whose
                layers have no common grid.
        """
        windows = self.windows(label)
        if len(windows) > 1:
            raise InputError(
                f"lesion {label} lies in {len(windows)} windows, and each has a layer of its own: "
                f"take them from windows({label}), or the map on the image from dense({label})"
            )
        return windows[0].values

    def dense(self, label: int = CLASS_LEVEL) -> HeatMap:
        """The map of a lesion on the image's grid: (X, Y, Z) float32.

        Interpolated trilinearly; several windows are blended as their logits are.

        Raises:
            InputError: there is no map of this label.
        """
        crop = self.crop(label)
        return crop.box.place(crop.values[..., 0], self.shape)

    def crop(self, label: int = CLASS_LEVEL) -> Crop:
        """The map on the image's grid where it is not zero, as a single channel.

        A map that is zero everywhere gives a single voxel.

        Raises:
            InputError: there is no map of this label.
        """
        found = [window.on_image(self.shape) for window in self.windows(label)]
        parts = [part for part in found if part is not None]
        if not parts:
            return Crop(np.zeros((1, 1, 1, 1), np.float32), (0, 0, 0), 1)
        hull = reduce(or_, (box for _, box in parts))
        total = np.zeros(hull.shape, np.float32)
        for values, box in parts:
            total[box.seen_from(hull.start).slices] += values
        return Crop(total[..., None], hull.start, 1)
