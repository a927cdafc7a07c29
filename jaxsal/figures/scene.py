"""What a figure shows: scan, lesions and map brought to RAS order, and where to cut them.

Axis letters: X, Y, Z space, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation
from numpy.typing import NDArray

from jaxsal.box import Box
from jaxsal.errors import InputError
from jaxsal.grid import Grid

Array = NDArray[Any]
PLANES = (("axial", 2), ("coronal", 1), ("sagittal", 0))  # the axis a plane is cut across


@dataclass(frozen=True)
class Scene:
    """What a figure shows, in RAS order.

    Attributes:
        image: (X, Y, Z, C).
        omega: (X, Y, Z) bool, the lesion domain.
        lesions: (X, Y, Z) bool, every lesion.
        saliency: (x, y, z, C), zero outside its crop.
        origin: (3,) voxel of the image at the crop's first voxel.
        spacing: (3,) mm.
        focus: (3,) voxel where the three slices meet.
        affine: (4, 4) from RAS-ordered voxels to mm.
        centre: (3,) middle of the view, in mm from the first voxel's centre.
        half: half the view's width in mm, the same along every axis.
    """

    image: Array
    omega: Array
    lesions: Array
    saliency: Array
    origin: Array
    spacing: Array
    focus: Array
    affine: Array
    centre: Array
    half: float

    @cached_property
    def windows(self) -> list[tuple[float, float]]:
        """Black and white points of each channel's axial slice, robust to a few extreme voxels."""
        windows = []
        for plane in np.moveaxis(self.plane(self.image, 2), -1, 0):
            inside = plane[plane != 0]
            low, high = np.percentile(inside, (1, 99.7)) if inside.size else (0.0, 1.0)
            windows.append((float(low), max(float(high), float(low) + 1e-6)))
        return windows

    def plane(self, volume: Array, axis: int) -> Array:
        """Cut a volume (X, Y, Z, ...) across an axis at the focus."""
        return cut(volume, axis, self.focus[axis])

    def map_plane(self, axis: int, channel: int) -> Array:
        """Cut the map across an axis at the focus, on the image's grid, 0 outside its crop."""
        ahead, size = self.focus - self.origin, self.saliency.shape[:3]
        plane = np.zeros(np.delete(self.omega.shape, axis), np.float32)
        if 0 <= ahead[axis] < size[axis]:
            sides = Box.at(self.origin, size).slices
            plane[sides[:axis] + sides[axis + 1 :]] = cut(
                self.saliency[..., channel], axis, ahead[axis]
            )
        return plane


def make_scene(
    image: Array,
    labels: Array,
    label: int | None,
    saliency: Array,
    origin: Sequence[int] | Array,
    grid: Grid,
) -> Scene:
    """Bring everything to RAS order and find where to cut."""
    turn = io_orientation(grid.affine_mm)
    first = np.empty(3, int)
    for axis, (target, direction) in enumerate(turn):
        end = origin[axis] + saliency.shape[axis]
        first[int(target)] = origin[axis] if direction > 0 else labels.shape[axis] - end
    labels = apply_orientation(labels, turn)
    omega = labels > 0 if label is None else labels == label
    if not omega.any():
        wanted = "a lesion" if label is None else f"label {label}"
        raise InputError(f"labels: a figure needs {wanted}, which the label map does not contain")
    affine = grid.affine_mm @ inv_ornt_aff(turn, image.shape[:3])
    spacing = nib.affines.voxel_sizes(affine)
    saliency = apply_orientation(saliency, turn)
    centre, half = _surroundings(omega, saliency, first, spacing)
    return Scene(
        image=apply_orientation(image, turn),
        omega=omega,
        lesions=labels > 0,
        saliency=saliency,
        origin=first,
        spacing=spacing,
        focus=_focus(omega),
        affine=affine,
        centre=centre,
        half=half,
    )


def _focus(omega: Array) -> Array:
    """Voxel (3,) of the domain in its largest axial slice, nearest to the domain's centre there."""
    low, high = bounds(omega)  # looking through the whole scan for voxels takes long
    voxels = low + np.argwhere(omega[tuple(map(slice, low, high + 1))])
    heights, areas = np.unique(voxels[:, 2], return_counts=True)
    largest = heights[areas == areas.max()]
    height = largest[np.argmin(np.abs(largest - voxels[:, 2].mean()))]
    voxels = voxels[voxels[:, 2] == height]
    return voxels[np.argmin(((voxels - voxels.mean(0)) ** 2).sum(1))]


def _surroundings(
    omega: Array, saliency: Array, origin: Array, spacing: Array, share: float = 0.05
) -> tuple[Array, float]:
    """Centre (3,) and half width, in mm, of the cube around the domain where the map matters.

    What stays below a share of the peak does not count: the paper leaves out magnitudes under 0.1,
    beside peaks of about 2.
    """
    strength = np.maximum.reduce([np.abs(saliency[..., c]) for c in range(saliency.shape[3])])
    strength[np.isnan(strength)] = 0  # where a gradient overflowed
    low, high = bounds(omega)
    centre = (low + high) / 2
    reach = (high - centre) * spacing
    if strength.any():
        for bound in bounds(strength >= share * strength.max()):
            reach = np.maximum(reach, np.abs(bound + origin - centre) * spacing)
    return centre * spacing, max(18.0, float(reach.max()) + 3)


def cut(volume: Array, axis: int, index: int) -> Array:
    """One plane of a volume as a view; numpy.take would copy a turned volume first."""
    plane: Array = volume[(slice(None),) * axis + (index,)]
    return plane


def bounds(mask: Array) -> tuple[Array, Array]:
    """First and last voxel (3,) of a mask (X, Y, Z) that is not empty."""
    box = Box.of(mask)
    assert box is not None
    return np.array(box.start), np.array(box.stop) - 1
