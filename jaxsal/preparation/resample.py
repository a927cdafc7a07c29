"""Volumes brought from one grid onto another by a transform; see `spatial` for its matrix."""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxsal.grid import Grid
from jaxsal.preparation.libraries import import_simpleitk
from jaxsal.preparation.spatial import array, geometry, simpleitk_image, to_lps

_INSIDE = 0.5  # of a voxel: the share of content from which on it counts as such


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
