"""Between NIfTI's space and ITK's, where x and y point the other way, and from grid to grid.

Matrices of transforms are (4, 4) float64 in NIfTI's world (RAS), mm, from a point of the fixed
image's space to the same anatomy in the moving image's.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from jaxsal.grid import Grid
from jaxsal.preparation.libraries import import_simpleitk

_FLIP = np.diag([-1.0, -1.0, 1.0, 1.0])  # RAS to LPS, and back
_INSIDE = 0.5  # of a voxel: the share of content from which on it counts as such


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


def resample_image(data: np.ndarray, grid: Grid, onto: Grid, matrix: np.ndarray) -> np.ndarray:
    """Resamples intensities by cubic B-splines.

    What is exactly zero stays so, since networks' normalisations leave zeros out; and no value
    leaves the range of the image's, as splines do beside edges.

    Args:
        data: (X, Y, Z) float32.
        grid: of the data.
        onto: the grid of the result.
        matrix: the transform, from `onto`'s world to `grid`'s.

    Returns:
        float32 on `onto`, 0 where the data do not reach; the data themselves if nothing moves.
    """
    if _stays(grid, onto, matrix):
        return data
    sitk = import_simpleitk()
    values = _resample(data, grid, onto, matrix, sitk.sitkBSpline3)
    content = _resample((data != 0).astype(np.float32), grid, onto, matrix, sitk.sitkLinear)
    np.clip(values, data.min(), data.max(), out=values)
    return np.where(content >= _INSIDE, values, np.float32(0))


def resample_labels(labels: np.ndarray, grid: Grid, onto: Grid, matrix: np.ndarray) -> np.ndarray:
    """Resamples a mask or label map by its nearest voxels, of the type given; see above."""
    if _stays(grid, onto, matrix):
        return labels
    nearest = import_simpleitk().sitkNearestNeighbor
    return _resample(labels.astype(np.int32), grid, onto, matrix, nearest).astype(labels.dtype)


def transform_file(matrix: np.ndarray) -> bytes:
    """A transform as ITK, elastix, ANTs and 3D Slicer read it, of points in LPS mm."""
    turned = to_lps(matrix)
    numbers = " ".join(repr(float(value)) for value in (*turned[:3, :3].ravel(), *turned[:3, 3]))
    lines = [
        *("#Insight Transform File V1.0", "#Transform 0"),
        *("Transform: AffineTransform_double_3_3", f"Parameters: {numbers}"),
        *("FixedParameters: 0 0 0", ""),
    ]
    return "\n".join(lines).encode()


def _stays(grid: Grid, onto: Grid, matrix: np.ndarray) -> bool:
    return grid.matches(onto) and np.array_equal(matrix, np.eye(4))


def _resample(
    data: np.ndarray, grid: Grid, onto: Grid, matrix: np.ndarray, interpolator: Any
) -> np.ndarray:
    sitk = import_simpleitk()
    turned, place = to_lps(matrix), geometry(onto)
    transform = sitk.AffineTransform(
        turned[:3, :3].ravel().tolist(), turned[:3, 3].tolist(), (0.0, 0.0, 0.0)
    )
    resampler = sitk.ResampleImageFilter()
    resampler.SetNumberOfThreads(1)  # processes share the cores
    resampler.SetSize([int(n) for n in onto.shape])
    resampler.SetOutputSpacing(place.spacing)
    resampler.SetOutputOrigin(place.origin)
    resampler.SetOutputDirection(place.direction.ravel().tolist())
    resampler.SetTransform(transform)
    resampler.SetInterpolator(interpolator)
    return array(resampler.Execute(simpleitk_image(data, grid)))
