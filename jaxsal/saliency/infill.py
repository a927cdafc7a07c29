"""What takes the place of a part of an image, so that a network cannot see what was there.

No infill is without content. The three are::

    mean      each channel's mean over the brain within 20 mm of Ω that is no lesion
    blurred   the image blurred by a Gaussian of σ = 5 mm
    zero      0: after z-scoring over the brain its mean, and the value of the background

The mean is tissue of the place, blurred keeps what is coarse, also of the lesion, and zero may be
a value that the network never saw there.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import ndimage

from jaxsal.box import Box
from jaxsal.errors import require, require_one_of, require_voxel_size
from jaxsal.inputs.background import find_background
from jaxsal.settings import INFILLS, Infill

MEAN_MM = 20.0
"""How far from a lesion the brain lies whose mean takes its place, in mm."""

BLUR_MM = 5.0
"""Standard deviation of the Gaussian of the infill "blurred", in mm."""

_ROUNDING = 1e-6  # relative, of voxel sizes that a header's affine gives

Spacing = tuple[float, float, float]


@dataclass(frozen=True, eq=False)
class Scene:
    """What is known of a scan beside its image.

    Attributes:
        spacing: voxel size in mm along X, Y, Z.
        lesions: (X, Y, Z) bool, all lesions of the scan, explained or not.

    Raises:
        InputError: the spacing is none.
    """

    spacing: Spacing
    lesions: np.ndarray

    def __post_init__(self) -> None:
        require_voxel_size(self.spacing)


@dataclass(frozen=True, eq=False)
class Infills:
    """The infills of one image.

    Attributes:
        image: (X, Y, Z, C) float32, as the network takes it.
        scene: its voxel size and lesions.

    Raises:
        InputError: the lesions do not lie on the image's grid.
    """

    image: np.ndarray
    scene: Scene

    def __post_init__(self) -> None:
        shape, lesions = self.image.shape[:3], self.scene.lesions.shape
        require(lesions == shape, "lesions", f"of the image's shape {shape}", lesions)

    def of(self, infill: Infill, omega: np.ndarray) -> np.ndarray:
        """What takes the image's place: (X, Y, Z, C) float32, not to be written to.

        Args:
            infill: "mean", "blurred" or "zero".
            omega: (X, Y, Z) bool, the lesion Ω; only "mean" depends on it.

        Raises:
            InputError: there is no such infill.
        """
        require_one_of("infill", infill, INFILLS)
        if infill == "blurred":
            return self._blurred
        level = np.zeros(self.image.shape[-1], np.float32)
        if infill == "mean":
            level = mean_around(self.image, self._healthy, omega, self.scene.spacing)
        return np.broadcast_to(level, self.image.shape)

    @cached_property
    def _healthy(self) -> np.ndarray:
        return brain_of(self.image) & ~self.scene.lesions

    @cached_property
    def _blurred(self) -> np.ndarray:
        return blurred(self.image, self.scene.spacing)


def brain_of(image: np.ndarray) -> np.ndarray:
    """The voxels (X, Y, Z) bool of an image (X, Y, Z, C) that are not background in all channels.

    Background is what `jaxsal.inputs.background.find_background` finds in a channel. Of a scan with
    its skull this is the head.
    """
    channels = np.moveaxis(image, -1, 0)
    return ~np.all([find_background(channel)[0] for channel in channels], axis=0)


def mean_around(
    image: np.ndarray, healthy: np.ndarray, omega: np.ndarray, spacing: Spacing
) -> np.ndarray:
    """Mean of each channel over healthy voxels within `MEAN_MM` of Ω: (C,) float32.

    Where there are none, as for a lesion that was found outside of the head, of all healthy voxels;
    0 if there are none at all.

    Args:
        image: (X, Y, Z, C).
        healthy: (X, Y, Z) bool, brain that is no lesion.
        omega: (X, Y, Z) bool, the lesion Ω.
        spacing: voxel size in mm.
    """
    box, near = around(omega, MEAN_MM, spacing)
    near = near & box.cut(healthy)
    values = box.cut(image)[near] if near.any() else image[healthy]
    if not len(values):
        return np.zeros(image.shape[-1], np.float32)
    mean: np.ndarray = values.mean(axis=0, dtype=np.float64).astype(np.float32)
    return mean


def blurred(image: np.ndarray, spacing: Spacing) -> np.ndarray:
    """An image (X, Y, Z, C) blurred by a Gaussian of σ = `BLUR_MM`; float32.

    Beyond its edge an image goes on with the values at the edge.
    """
    sigma = [*np.divide(BLUR_MM, spacing), 0]
    found: np.ndarray = ndimage.gaussian_filter(image.astype(np.float32), sigma, mode="nearest")
    return found


def within(omega: np.ndarray, mm: float, spacing: Spacing) -> np.ndarray:
    """Ω and all voxels within so many mm of it: (X, Y, Z) bool.

    Args:
        omega: (X, Y, Z) bool, the lesion Ω, not empty.
        mm: largest distance of a voxel's centre from the nearest one of Ω.
        spacing: voxel size in mm.
    """
    box, near = around(omega, mm, spacing)
    return box.place(near, omega.shape)


def around(omega: np.ndarray, mm: float, spacing: Spacing) -> tuple[Box, np.ndarray]:
    """As `within`, in the smallest box of the image that holds so many mm around Ω: (x, y, z)."""
    box, away = distances(omega, mm, spacing)
    return box, away <= mm * (1 + _ROUNDING)


def distances(omega: np.ndarray, mm: float, spacing: Spacing) -> tuple[Box, np.ndarray]:
    """Distances in mm from Ω, and the box (x, y, z) of the image that they are given in.

    The box holds all voxels within `mm` of Ω. Distances are those from a voxel's centre to the
    nearest centre of a voxel of Ω: 0 inside of it.

    Args:
        omega: (X, Y, Z) bool, the lesion Ω, not empty.
        mm: how far the box reaches.
        spacing: voxel size in mm.
    """
    own = Box.of(omega)
    assert own is not None  # a lesion has voxels
    margin = np.floor(mm * (1 + _ROUNDING) / np.asarray(spacing)).astype(int)
    box = Box(own.start - margin, own.stop + margin).clip(omega.shape)
    away: np.ndarray = ndimage.distance_transform_edt(~box.cut(omega), sampling=spacing)
    return box, away
