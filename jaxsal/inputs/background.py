"""Which voxels of an image are background: those of value 0, or of the value that 0 became.

A scale factor, interpolation, a z-score or clipping moves the 0 of a brain-extracted scan to
another value. The border of the volume shows it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from jaxsal.box import Box

if TYPE_CHECKING:
    from jaxsal.preprocessing import Normalisation
    from jaxsal.volumes import Volume

_NEARLY_ALL = 2 / 3  # of the border: a head that touches the border leaves tissue on it
_LARGE = 0.1  # part of the volume; around a tightly cropped brain, half of it is background
_SAME = 1e-3  # of the spread of intensities: rounding after interpolation, ringing of splines
_STRAY = 0.01  # of the background: the edges of any head have so many voxels of nearly its value
_PIECE = 0.01  # part of the volume; no tissue is exactly 0 in so large a piece
_FULL = 0.9  # of its box, above which the foreground fills it
_FULL_FACE = 0.5  # of each of the six faces; a tightly cropped head only touches them
_LARGEST_HEAD = 8e6  # mm³, with the neck; the box around a head has more
_EVEN = 0.1  # part of the head's voxels; no tissue has one value in so many


@dataclass(frozen=True)
class Background:
    """The background of an image.

    Attributes:
        value: of its voxels, before the image is normalised.
        voxels: their number.
    """

    value: float
    voxels: int


def find_background(volume: np.ndarray) -> tuple[np.ndarray, Background]:
    """Finds the background of a volume.

    1. It is the voxels of exactly 0, unless another value is found.
    2. Another value is sought in the box of all voxels that are not 0. Two thirds of the box's
       border and a tenth of the box must hold it. Where much of the border is 0, as in a rotated
       image, two thirds of the rest suffice for a value below 0; one above may be a brain's rim.
    3. Beside such a value, zeros are background in pieces that touch the border of the grid, or
       that touch the value and fill a hundredth of the volume. Other zeros are tissue.
    4. Values within 0.001 of the spread of intensities are the same value where many voxels, all
       connected with the border, have them: rounding makes a constant uneven.

    Args:
        volume: intensities (X, Y, Z), finite.

    Returns:
        (X, Y, Z) bool, True in the background; and its value and size.
    """
    zero = volume == 0
    box = bounds(~zero).slices
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
    """The smallest box that holds a mask; the whole grid for an empty mask."""
    return Box.of(mask) or Box.whole(mask.shape)


def fills_its_box(mask: np.ndarray) -> bool:
    """Whether a mask (X, Y, Z) is too box-like for a head.

    It fills more than 90 % of its own box, or more than half of each of the box's six faces.
    """
    within = bounds(mask).cut(mask)
    return bool(within.mean() > _FULL or min(face.mean() for face in faces(within)) > _FULL_FACE)


def commonest(values: np.ndarray) -> tuple[float, float]:
    """The commonest value, within 0.001 of the spread of intensities, and its share of the voxels.

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
    """The value of a constant background other than 0, and its mask; None if there is none."""
    border = np.concatenate([face.ravel() for face in faces(volume)])
    other = border[border != 0]
    value = float(np.partition(other, other.size // 2)[other.size // 2])
    widest = _SAME * (float(volume.max()) - float(volume.min()))
    if np.mean(np.abs(other - value) <= widest) < _NEARLY_ALL:  # most images end here
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
    """Where a volume holds a value, or nearly so; None if all of it is exactly 0."""
    exact, near = volume == value, np.abs(volume - value) <= tolerance
    if np.count_nonzero(near & ~exact) <= _STRAY * np.count_nonzero(near):
        return exact if value else None
    pieces, _ = ndimage.label(near)
    return exact | np.isin(pieces, _at_border(pieces))


def _zeros_beside(mask: np.ndarray, zero: np.ndarray) -> np.ndarray:
    """The zeros that belong to a background of another value, given by its mask."""
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


def note(
    volume: Volume, where: np.ndarray, background: Background, normalisation: Normalisation | None
) -> str:
    """A warning of an image's background; "" if there is nothing to say.

    Args:
        volume: the image.
        where: (X, Y, Z) bool, its background.
        background: its value and size.
        normalisation: of the image; None: it is z-scored over the rest.
    """
    zeros = volume.data == 0
    is_zero = bool((where == zeros).all())
    also = ", or 0 beside it," if background.value and (where & zeros).any() else ""
    holding = (
        f"{background.voxels:,} of {where.size:,} voxels hold {background.value:g} or nearly so"
        f"{also}"
    )
    said = []
    if normalisation is None:
        if not is_zero:
            said.append(f"{holding} and are taken for background, which becomes 0")
        said += _doubt(volume, ~where)
    elif normalisation.masked and not is_zero:
        said.append(
            f"{holding}, a background that is not 0: it is normalised with the rest, as nnU-Net "
            "does; if the network was trained on a background of 0, give a mask of the brain "
            "(--mask)"
        )
    return f"{volume.path.name}: {'; '.join(said)}" if said else ""


def note_of_mask(volume: Volume, normalisation: Normalisation | None) -> str:
    """A warning of an image whose background a mask gives; "" if there is nothing to say."""
    if normalisation is None or normalisation.scheme != "ct":
        return ""
    return (
        f"{volume.path.name}: outside of the mask it is set to 0, which a network for CT takes "
        "for 0 HU, as of water, and not for air; give a mask only if it was trained on such images"
    )


def _doubt(volume: Volume, head: np.ndarray) -> list[str]:
    """A sentence if what counts as head may hold unrecognised background."""
    reasons = []
    if fills_its_box(head):
        reasons.append("leave no room around a head")
    litres = np.count_nonzero(head) * volume.grid.voxel_volume
    if litres > _LARGEST_HEAD:
        reasons.append(f"are {litres / 1e6:.1f} litres")
    value, share = commonest(volume.data[head])
    if share >= _EVEN:
        reasons.append(f"hold {value:g} or nearly so in {share:.0%}")
    if not reasons:
        return []
    return [
        f"{np.count_nonzero(head):,} of {head.size:,} voxels count as head, though they "
        f"{' and '.join(reasons)}: what surrounds the head was not recognised as background; for "
        "a network of brains without skull, or where it is to be 0, give a mask of the brain "
        "(--mask)"
    ]
