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
_PIECE = 0.01  # part of the volume; no tissue is exactly 0 in so large a piece
_FULL = 0.9  # part of its box, above which what is no background fills it
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

    1. It is what is exactly 0, unless another value is found.
    2. That is what two thirds of the border hold, if it fills a tenth of the box: of the box of all
       voxels that are not 0, and its border. Where much of that is 0, as in an image that was
       turned, two thirds of the rest will do for a value below 0; one above may be a brain's rim.
    3. Beside such a value, zeros are background in pieces that touch the border of the grid, or
       that touch the value and fill a hundredth of the volume. Other zeros are tissue.
    4. Values within 0.001 of the spread of intensities are taken for the same where many voxels,
       all connected with the border, have them: rounding makes a constant uneven.

    Args:
        volume: intensities (X, Y, Z), finite.

    Returns:
        (X, Y, Z) bool, True in the background; and what it holds.
    """
    zero = volume == 0
    box = bounds(~zero)
    found = None if zero.all() else _constant(volume[box])
    if found is not None:
        value, inside = found
        mask = np.zeros_like(zero)
        mask[box] = inside
        mask |= _zeros_beside(mask, zero)
        if not mask.all():
            return mask, Background(value, int(np.count_nonzero(mask)))
    return zero, Background(0.0, int(np.count_nonzero(zero)))


def bounds(mask: np.ndarray) -> Box:
    """The smallest box of all voxels in a mask; the whole grid if there are none."""
    found = ndimage.find_objects(mask.astype(np.int8))
    x, y, z = found[0] if found else (slice(0, n) for n in mask.shape)
    return x, y, z


def fills_its_box(mask: np.ndarray) -> bool:
    """Whether a mask (X, Y, Z) cannot be a head: within its own box no background is left around.

    That is more than 90 % of the box, or more than half of each of its six faces.
    """
    within = mask[bounds(mask)]
    return bool(within.mean() > _FULL or min(face.mean() for face in faces(within)) > _FULL_FACE)


def commonest(values: np.ndarray) -> tuple[float, float]:
    """The value that most voxels have, within 0.001 of the spread of intensities; and their share.

    Args:
        values: intensities, at least one.
    """
    some = np.sort(values.ravel()[::4])  # as good for a share, and quick
    low, high = np.percentile(some, (1, 99))
    ends = np.searchsorted(some, some + _SAME * (high - low), side="right")
    counts = ends - np.arange(some.size)
    most = int(np.argmax(counts))
    return float(some[most + counts[most] // 2]), float(counts[most] / some.size)


def _constant(volume: np.ndarray) -> tuple[float, np.ndarray] | None:
    """The value of a constant background other than 0, and where it is; None without one."""
    border = np.concatenate([face.ravel() for face in faces(volume)])
    other = border[border != 0]
    value = float(np.partition(other, other.size // 2)[other.size // 2])
    widest = _SAME * (float(volume.max()) - float(volume.min()))
    if np.mean(np.abs(other - value) <= widest) < _NEARLY_ALL:  # which most images end at
        return None
    some = volume[::2, ::2, ::2]  # as good for a spread, and quick
    tolerance = _SAME * float(np.percentile(np.abs(some - value), 99))
    counted = other if value - tolerance <= 0 else border
    if np.mean(np.abs(counted - value) <= tolerance) < _NEARLY_ALL:
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
    return exact | np.isin(pieces, _at_border(pieces))


def _zeros_beside(mask: np.ndarray, zero: np.ndarray) -> np.ndarray:
    """Which zeros belong to a background of another value, where that is as given."""
    pieces, _ = ndimage.label(zero)
    large = np.flatnonzero(np.bincount(pieces.ravel()) >= _PIECE * zero.size)
    touching = np.unique(pieces[ndimage.binary_dilation(mask)])
    beside = np.intersect1d(large, touching)
    return zero & np.isin(pieces, np.union1d(beside, _at_border(pieces)))


def _at_border(pieces: np.ndarray) -> np.ndarray:
    """The numbers of the pieces, from 1 on, that touch the border of a volume."""
    found = np.unique(np.concatenate([face.ravel() for face in faces(pieces)]))
    return found[found > 0]


def faces(values: np.ndarray) -> list[np.ndarray]:
    """The six faces of a volume (X, Y, Z)."""
    return [values.take(place, axis) for axis in range(3) for place in (0, -1)]
