"""Which voxels of an image are its background: those of 0, or of what processing made of the 0.

A scale factor, interpolation, a z-score or clipping moves the 0 of a brain-extracted scan to
another value. The border of the volume shows it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from jaxsal.types import Box

_NEARLY_ALL = 2 / 3  # of the border: where a head touches the border, that holds tissue, too
_LARGE = 0.1  # part of the volume; of what surrounds a tightly cropped brain it is a half
_SAME = 1e-3  # of the spread of intensities: rounding after interpolation, ringing of splines
_STRAY = 0.01  # of the background: as many voxels of nearly its value lie at edges of any head
_FULL = 0.9  # part of the grid, above which what is no background fills it
_FULL_FACE = 0.5  # the same of each of the six faces: what is cropped tightly only touches them


@dataclass(frozen=True)
class Background:
    """What an image's background is.

    Attributes:
        value: that its voxels hold, before the image is normalised.
        voxels: their number.
    """

    value: float
    voxels: int


def find_background(volume: np.ndarray) -> tuple[np.ndarray, Background]:
    """Finds the background of a volume.

    It is what is exactly 0. If two thirds of the border's other voxels hold one value, and this
    fills a tenth of the volume, it is that value. (The border is that of the box of all voxels
    that are not 0. Beside zeros at the grid's own border a background is below 0.) Values within
    0.001 of the spread of intensities are taken for the same where many voxels, all connected with
    the border, have them: rounding makes a constant uneven.

    Args:
        volume: intensities (X, Y, Z), finite.

    Returns:
        (X, Y, Z) bool, True in the background; and what it holds.
    """
    zero = volume == 0
    box = bounds(~zero)
    padded = any(face.any() for face in faces(zero))
    found = None if zero.all() else _constant(volume[box], below=0.0 if padded else np.inf)
    if found is not None:
        value, inside = found
        # Zeros within the head are tissue that happens to have this value.
        mask = zero.copy() if padded else np.zeros_like(zero)
        mask[box] |= inside
        if not mask.all():
            return mask, Background(value, int(np.count_nonzero(mask)))
    return zero, Background(0.0, int(np.count_nonzero(zero)))


def bounds(mask: np.ndarray) -> Box:
    """The smallest box of all voxels in a mask; the whole grid if there are none."""
    found = ndimage.find_objects(mask.astype(np.int8))
    x, y, z = found[0] if found else (slice(0, n) for n in mask.shape)
    return x, y, z


def fills_the_grid(mask: np.ndarray) -> bool:
    """Whether a mask (X, Y, Z) cannot be a head: no background is left around it.

    That is more than 90 % of the grid, or more than half of each of its six faces.
    """
    return bool(mask.mean() > _FULL or min(face.mean() for face in faces(mask)) > _FULL_FACE)


def _constant(volume: np.ndarray, below: float) -> tuple[float, np.ndarray] | None:
    """The value of a constant background other than 0, and where it is; None without one."""
    border = np.concatenate([face.ravel() for face in faces(volume)])
    border = border[border != 0]
    value = float(np.partition(border, border.size // 2)[border.size // 2])
    widest = _SAME * (float(volume.max()) - float(volume.min()))
    if np.mean(np.abs(border - value) <= widest) < _NEARLY_ALL:  # which most images end at
        return None
    some = volume[::2, ::2, ::2]  # as good for a spread, and quick
    tolerance = _SAME * float(np.percentile(np.abs(some - value), 99))
    if value - tolerance > below or np.mean(np.abs(border - value) <= tolerance) < _NEARLY_ALL:
        return None
    if abs(value) <= tolerance and np.count_nonzero(some == 0) > np.count_nonzero(some == value):
        value = 0.0
    found = _same(volume, value, tolerance)
    if found is None or np.mean(found) < _LARGE:
        return None
    return value, found


def _same(volume: np.ndarray, value: float, tolerance: float) -> np.ndarray | None:
    """Where a volume holds a value, or nearly so; None if it is 0 and exactly that."""
    exact, near = volume == value, np.abs(volume - value) <= tolerance
    if np.count_nonzero(near & ~exact) <= _STRAY * np.count_nonzero(near):
        return exact if value else None
    pieces, _ = ndimage.label(near)
    outer = np.unique(np.concatenate([face.ravel() for face in faces(pieces)]))
    return exact | np.isin(pieces, outer[outer > 0])


def faces(values: np.ndarray) -> list[np.ndarray]:
    """The six faces of a volume (X, Y, Z)."""
    return [values.take(place, axis) for axis in range(3) for place in (0, -1)]
