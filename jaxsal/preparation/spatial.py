"""Between NIfTI's space and ITK's: x and y point the other way, and array axes are reversed.

Matrices of transforms are (4, 4) float64 in NIfTI's world (RAS), mm, from a point of the fixed
image's space to the same anatomy in the moving image's.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from jaxsal.grid import Grid
from jaxsal.preparation.libraries import import_simpleitk

_FLIP = np.diag([-1.0, -1.0, 1.0, 1.0])  # RAS to LPS, and back


class Geometry(NamedTuple):
    """A grid as ITK has it, in LPS mm; directions (3, 3) are the array axes' unit vectors."""

    spacing: tuple[float, float, float]
    origin: tuple[float, ...]
    direction: np.ndarray


def geometry(grid: Grid) -> Geometry:
    """A grid as ITK has it."""
    affine = _FLIP @ grid.affine_mm
    origin = tuple(float(value) for value in affine[:3, 3])
    return Geometry(grid.spacing, origin, affine[:3, :3] / np.asarray(grid.spacing))


def itk_order(data: np.ndarray) -> np.ndarray:
    """An array (X, Y, Z) as ITK takes it, (Z, Y, X)."""
    return np.ascontiguousarray(data.T)


def simpleitk_image(data: np.ndarray, grid: Grid) -> Any:
    """A volume (X, Y, Z) as SimpleITK's image."""
    image = import_simpleitk().GetImageFromArray(itk_order(data))
    spacing, origin, direction = geometry(grid)
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    image.SetDirection(direction.ravel().tolist())
    return image


def array(image: Any) -> np.ndarray:
    """The voxels (X, Y, Z) of SimpleITK's image."""
    voxels: np.ndarray = import_simpleitk().GetArrayFromImage(image)
    return np.ascontiguousarray(voxels.T)


def to_lps(matrix: np.ndarray) -> np.ndarray:
    """A transform's matrix in ITK's world; by the same rule, back from there."""
    turned: np.ndarray = _FLIP @ matrix @ _FLIP
    return turned


def corner_displacement(matrix: np.ndarray, grid: Grid) -> float:
    """How far a transform moves the corners of a grid at most, in mm."""
    corners = grid.world(grid.corners)
    moved = corners @ matrix[:3, :3].T + matrix[:3, 3]
    return float(np.linalg.norm(moved - corners, axis=1).max())
