"""Bias fields, slow changes of brightness that come from coils and not from tissue, and N4.

Tustison et al., "N4ITK: improved N3 bias correction", IEEE Transactions on Medical Imaging 29
(2010).
"""

from __future__ import annotations

import numpy as np

from jaxsal.errors import InputError
from jaxsal.grid import Grid
from jaxsal.preparation.libraries import import_simpleitk
from jaxsal.preparation.spatial import array, simpleitk_image

WORKING_VOXEL = 4.0
"""About the size in mm of the voxels that the field is fitted to; it varies over centimetres."""

ITERATIONS = (50, 50, 50, 50)
"""At most so many per level; each level doubles the splines' control points per axis."""

_FEWEST = 8  # voxels along an axis to fit to


def bias_field(data: np.ndarray, grid: Grid, name: str = "The image") -> np.ndarray:
    """The field that an image is multiplied by, as N4 finds it in the foreground.

    Args:
        data: intensities (X, Y, Z).
        grid: of the data.
        name: what an error calls the image.

    Returns:
        (X, Y, Z) float32, positive; its geometric mean over the foreground is 1.

    Raises:
        InputError: SimpleITK is not installed, or the image has no foreground.
    """
    sitk = import_simpleitk()
    inside = foreground(data)
    if not inside.any():
        raise InputError(f"{name} has no positive contrast to find a bias field in: look at it")
    image = simpleitk_image(data, grid)
    mask = simpleitk_image(inside.astype(np.uint8), grid)
    factors = _shrink_factors(grid)
    n4 = sitk.N4BiasFieldCorrectionImageFilter()
    n4.SetNumberOfThreads(1)  # sums of several threads would differ in their last digits
    n4.SetMaximumNumberOfIterations(ITERATIONS)
    try:
        n4.Execute(sitk.Shrink(image, factors), sitk.Shrink(mask, factors))
    except RuntimeError as error:
        raise InputError(f"N4 cannot correct {name}: {str(error).splitlines()[-1]}") from error
    logarithm = array(n4.GetLogBiasFieldAsImage(image)).astype(np.float64)
    return np.exp(logarithm - logarithm[inside].mean()).astype(np.float32)


def foreground(data: np.ndarray) -> np.ndarray:
    """The head or brain: positive voxels (X, Y, Z) that are brighter than Otsu's threshold."""
    sitk = import_simpleitk()
    otsu = sitk.OtsuThresholdImageFilter()
    otsu.SetInsideValue(0)
    otsu.SetOutsideValue(1)
    bright = otsu.Execute(sitk.GetImageFromArray(data))
    inside: np.ndarray = (sitk.GetArrayFromImage(bright) > 0) & (data > 0)
    return inside


def _shrink_factors(grid: Grid) -> list[int]:
    wanted = (round(WORKING_VOXEL / size) for size in grid.spacing)
    return [max(1, min(w, n // _FEWEST)) for w, n in zip(wanted, grid.shape, strict=True)]
