"""What must hold in every voxel: that values are finite, that labels are whole numbers."""

from __future__ import annotations

import numpy as np

from jaxsal.errors import InputError

WHOLE_TOLERANCE = 1e-3
"""How far a label may lie from a whole number: scale factors and float32 leave 0.9999999 of 1."""

OF_LABELS = "0 is background, lesions have labels from 1 on"
_NEAREST = "resample labels with nearest neighbour, save them as integers without a scale factor"


def require_finite(data: np.ndarray, name: str, advice: str) -> None:
    """Raises InputError if a voxel is NaN or infinite."""
    require_none(~np.isfinite(data), data, name, "finite", advice)


def whole_numbers(data: np.ndarray, name: str, advice: str) -> np.ndarray:
    """The labels that an array of any type holds: the nearest whole numbers.

    Args:
        data: (X, Y, Z).
        name: what an error calls the data, e.g. a path.
        advice: what labels are to be like.

    Returns:
        (X, Y, Z) of the type of `data`, whole numbers from 0 on.

    Raises:
        InputError: a value is NaN, infinite, negative, or further than `WHOLE_TOLERANCE` from a
            whole number.
    """
    nearest = data
    if data.dtype.kind == "f":
        require_finite(data, name, advice)
        nearest = np.rint(data)
        fractional = np.abs(data - nearest) > WHOLE_TOLERANCE
        require_none(fractional, data, name, "whole", _NEAREST)
    require_none(nearest < 0, data, name, "non-negative", advice)
    return nearest


def require_none(wrong: np.ndarray, data: np.ndarray, name: str, rule: str, advice: str) -> None:
    """Raises InputError if any voxel is `wrong`, naming how many and the first."""
    count = int(np.count_nonzero(wrong))
    if count:
        first = tuple(int(index) for index in np.unravel_index(int(wrong.argmax()), wrong.shape))
        raise InputError(
            f"{name} must be {rule} in every voxel, but {count} voxel(s) are not, the first at "
            f"{first} with the value {data[first]}: {advice}."
        )
