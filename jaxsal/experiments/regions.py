"""Regions of a scan in which experiments place lesion domains: white matter, and spheres in it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from jaxsal.box import Box
from jaxsal.errors import InputError, require
from jaxsal.experiments.head_outline import otsu
from jaxsal.grid import Grid
from jaxsal.inputs.channel_names import is_named_after
from jaxsal.lesions import TOUCHING

LARGEST_SPHERE = 100_000.0
"""mm³, a tenth of a litre: more than any lesion has."""

LESION_MARGIN = 5.0  # mm of white matter around lesions that is not taken for healthy
EDGE = 2.0  # mm of white matter beside other tissue that is left out
_FLAIR_DEVIATIONS = 2.5  # of healthy white matter, around its median
_SMALLEST_PART = 500.0  # mm³ of white matter in one piece
_LEAST_DEPTH = 8.0  # mm of a piece on average below the head's surface; skin and fat lie higher

_FLAIR_NAMES = ("flair",)
_T1_NAMES = ("t1", "mprage")
_OTHER_T1 = ("t1c", "t1ce", "t1gd", "t1map")


def flair_and_t1(channels: Sequence[str]) -> tuple[int, int]:
    """Which channels are FLAIR and T1 (t1, t1w, mprage, ...), by their names.

    Raises:
        InputError: the names do not show it, or several do.
    """
    flair = [i for i, name in enumerate(channels) if _is_named(name, _FLAIR_NAMES)]
    t1 = [
        i
        for i, name in enumerate(channels)
        if _is_named(name, _T1_NAMES) and not _is_named(name, (*_FLAIR_NAMES, *_OTHER_T1))
    ]
    if len(flair) != 1 or len(t1) != 1:
        raise InputError(
            "white matter is found by one channel called flair and one called t1 (or mprage); the "
            f"model's channels are {', '.join(channels)}: give a mask of white matter instead"
        )
    return flair[0], t1[0]


def _is_named(name: str, wanted: Sequence[str]) -> bool:
    return any(is_named_after(name, each) for each in wanted)


def white_matter(
    image: np.ndarray,
    channels: Sequence[str],
    inside: np.ndarray,
    lesions: np.ndarray,
    grid: Grid,
) -> np.ndarray:
    """Healthy white matter away from its edges, by a rule on T1 and FLAIR.

    White matter is the bright half of the bright half of T1 inside the head, halves being divided
    by Otsu's threshold: fluid from tissue, then grey matter from white. What differs there on FLAIR
    from the median by more than 2.5 standard deviations (robust ones: 1.4826 times the median
    deviation) is left out, and what is within 5 mm of a lesion, or within 2 mm of anything left
    out. Of what remains, pieces of 0.5 ml and more that lie 8 mm or more below the head's surface
    on average: skin and fat are bright, too. The rule needs no brain extraction; it is meant to
    find places which are white matter, not all of it. Where T1 shows deep grey matter as bright as
    white, it takes that as well: give a mask then.

    Source: N. Otsu, "A threshold selection method from gray-level histograms", IEEE Trans. Syst.
    Man Cybern. 9, 1979.

    Args:
        image: (X, Y, Z, C), each channel in any linear units.
        channels: C names, one of which means FLAIR and one T1.
        inside: (X, Y, Z) bool, from `jaxsal.experiments.head_outline.head`.
        lesions: (X, Y, Z), not zero inside; predicted ones as well as the reference.
        grid: of all.

    Returns:
        (X, Y, Z) bool; empty if there is none.

    Raises:
        InputError: names of channels do not show which are FLAIR and T1.
    """
    names = flair_and_t1(channels)
    result = np.zeros(inside.shape, bool)
    where = Box.of(inside)  # in which it is soonest worked with
    if where is not None:
        box = where.slices
        flair, t1 = (image[box][..., c] for c in names)
        healthy = _healthy(flair, t1, inside[box])
        healthy &= distance_mm(lesions[box] != 0, grid) > LESION_MARGIN
        core = depth_mm(_without_specks(healthy), grid) > EDGE
        result[box] = _deep_parts(core, depth_mm(inside[box], grid), grid)
    return result


def _healthy(flair: np.ndarray, t1: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Bright on T1 and, among that, ordinary on FLAIR."""
    bright = inside & (t1 > otsu(t1[inside]))
    if bright.any():
        bright &= t1 > otsu(t1[bright])
    sample = flair[bright]
    if not sample.size:
        return bright
    middle = np.median(sample)
    deviation = 1.4826 * np.median(np.abs(sample - middle))
    ordinary: np.ndarray = bright & (np.abs(flair - middle) <= _FLAIR_DEVIATIONS * deviation)
    return ordinary


def _without_specks(mask: np.ndarray) -> np.ndarray:
    """The mask with single voxels that noise has taken from it."""
    neighbours = ndimage.uniform_filter(mask.astype(np.float32), 3, mode="constant")
    return mask | (neighbours > 0.7)


def _deep_parts(mask: np.ndarray, depth: np.ndarray, grid: Grid) -> np.ndarray:
    """The pieces of a mask that are neither small nor, on average, near the head's surface."""
    labels, count = ndimage.label(mask, structure=TOUCHING)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    depths = np.bincount(labels.ravel(), depth.ravel(), count + 1) / np.maximum(sizes, 1)
    kept = (sizes * grid.voxel_volume >= _SMALLEST_PART) & (depths >= _LEAST_DEPTH)
    kept[0] = False
    deep: np.ndarray = kept[labels]
    return deep


def distance_mm(mask: np.ndarray, grid: Grid) -> np.ndarray:
    """Distance in mm from every voxel to the nearest one of a mask; infinite without any."""
    if not mask.any():
        return np.full(mask.shape, np.inf)
    distance: np.ndarray = ndimage.distance_transform_edt(~mask, sampling=grid.spacing)
    return distance


def depth_mm(mask: np.ndarray, grid: Grid) -> np.ndarray:
    """Distance in mm from the voxels of a mask to the nearest one outside, or beyond the grid."""
    outside = ~np.pad(mask, 1)
    return distance_mm(outside, grid)[1:-1, 1:-1, 1:-1]


def require_sphere_volume(volume_mm3: float) -> None:
    """Refuses what no ball in a head can have.

    Raises:
        InputError: the volume is not positive, or above `LARGEST_SPHERE`.
    """
    rule = f"more than 0 and at most {LARGEST_SPHERE:,.0f} mm³"
    require(0 < volume_mm3 <= LARGEST_SPHERE, "sphere volume", rule, volume_mm3)


def sphere(centre: Sequence[int] | np.ndarray, volume_mm3: float, grid: Grid) -> np.ndarray:
    """The voxels of a ball: those nearest to its centre, as many as come closest to its volume.

    Args:
        centre: voxel (3,).
        volume_mm3: in mm³; a ball has at least one voxel.
        grid: whose voxels; they need not be cubes.

    Returns:
        Voxels (V, 3) int, nearest first, some perhaps beyond the grid.

    Raises:
        InputError: as `require_sphere_volume` raises it.
    """
    require_sphere_volume(volume_mm3)
    count = max(1, round(volume_mm3 / grid.voxel_volume))
    radius = (3 * volume_mm3 / (4 * np.pi)) ** (1 / 3)
    spacing = np.array(grid.spacing)
    half = np.ceil(radius / spacing).astype(int) + 1
    offsets = np.stack(np.meshgrid(*(np.arange(-h, h + 1) for h in half), indexing="ij"), -1)
    offsets = offsets.reshape(-1, 3)
    square = ((offsets * spacing) ** 2).sum(1).round(6)  # so that equal distances are equal
    nearest = np.argsort(square, kind="stable")[:count]
    voxels: np.ndarray = np.asarray(centre) + offsets[nearest]
    return voxels


def place_spheres(
    allowed: np.ndarray,
    forbidden: np.ndarray,
    volume_mm3: float,
    number: int,
    grid: Grid,
    rng: np.random.Generator,
) -> np.ndarray:
    """Balls at random places, each wholly inside a region.

    They neither overlap with nor touch, by a face or an edge, each other or another region.

    Args:
        allowed: (X, Y, Z) bool, where they must lie.
        forbidden: (X, Y, Z), not zero where nothing may lie, such as lesions.
        volume_mm3: of each, in mm³.
        number: how many are wanted.
        grid: of all.
        rng: draws the places, uniformly among those that are left.

    Returns:
        Labels (X, Y, Z) int32, from 1 on; fewer than wanted where there is no room for more.
    """
    ball = sphere((0, 0, 0), volume_mm3, grid)
    spacing = np.array(grid.spacing)
    radius = float(np.sqrt(((ball * spacing) ** 2).sum(1).max()))
    free = allowed & ~ndimage.binary_dilation(forbidden != 0, TOUCHING)
    centres = _centres(free, radius, grid)
    apart = 2 * radius + float(np.sqrt(np.sort(spacing**2)[1:].sum())) + 1e-6
    labels = np.zeros(allowed.shape, np.int32)
    for label in range(1, number + 1):
        if not len(centres):
            break
        centre = centres[rng.integers(len(centres))]
        labels[tuple((centre + ball).T)] = label
        centres = centres[(((centres - centre) * spacing) ** 2).sum(1) > apart**2]
    return labels


def _centres(free: np.ndarray, radius: float, grid: Grid) -> np.ndarray:
    """Voxels (V, 3) around which all is free as far as a ball reaches."""
    box = Box.of(free)
    if box is None:
        return np.zeros((0, 3), int)
    depth = depth_mm(box.cut(free), grid)
    return np.argwhere(depth > radius + 1e-6) + box.start  # the margin absorbs rounding
