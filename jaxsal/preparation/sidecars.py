"""What the file beside a prepared image says of each step by which it came about."""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxsal.grid import Grid
from jaxsal.preparation.bias import ITERATIONS, WORKING_VOXEL
from jaxsal.preparation.register import Registration
from jaxsal.preparation.settings import TransformKind


def of_registration(found: Registration, kind: TransformKind) -> dict[str, Any]:
    """How an image was registered."""
    return {
        "Method": "elastix, mutual information, cubic B-splines",
        "Transform": kind,
        "MatrixRASmm": found.matrix.tolist(),
        "MutualInformationBefore": found.information_before,
        "MutualInformationAfter": found.information_after,
        "Note": found.note,
    }


def of_resampling(before: Grid, after: Grid) -> dict[str, Any]:
    """How images were brought to another voxel size.

    Args:
        before: the fixed image's grid.
        after: the prepared images'.
    """
    return {
        "Method": "cubic B-splines, once, with the registration; masks by the nearest voxel",
        "VoxelSizeBeforeMm": list(before.spacing),
        "VoxelSizeMm": list(after.spacing),
    }


def of_brain(how: str, millilitres: float) -> dict[str, Any]:
    """How the skull was removed.

    Args:
        how: the command line, or what the mask is.
        millilitres: volume of the brain's mask.
    """
    return {"Method": how, "MaskMl": millilitres, "Outside": 0}


def of_bias(image: np.ndarray, field: np.ndarray) -> dict[str, Any]:
    """How a bias field was removed.

    Args:
        image: (X, Y, Z) before.
        field: (X, Y, Z), what it was divided by.
    """
    return {
        "Method": "N4",
        "Iterations": ITERATIONS,
        "WorkingVoxelMm": WORKING_VOXEL,
        "FieldPercentiles1And99": spread(image, field),
    }


def spread(image: np.ndarray, field: np.ndarray) -> list[float]:
    """What a field lies between, but for its extremes, where there is an image."""
    return [float(value) for value in np.percentile(field[image != 0], (1, 99))]
