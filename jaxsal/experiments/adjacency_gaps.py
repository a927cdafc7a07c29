"""How many mm of tissue lie between the borders of lesions, and copies of a lesion beside it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations, product

import numpy as np
from scipy.spatial import cKDTree

from jaxsal.experiments.synthetic_grafts import Graft
from jaxsal.grid import Grid

_DIRECTIONS = tuple(product(range(3), (1, -1)))
_CORNERS = np.array(list(product((0, 1), repeat=3)))


def corner_tree(voxels: np.ndarray, spacing: Sequence[float]) -> cKDTree:
    """The corners of voxels (V, 3), in mm.

    Voxels of one grid are as far apart as the nearest of their corners.
    """
    corners = np.unique((voxels[:, None] + _CORNERS).reshape(-1, 3), axis=0)
    return cKDTree(corners * np.asarray(spacing))


def gap_between(one: cKDTree, other: cKDTree, within: float = np.inf) -> float:
    """Distance in mm between the borders of two lesions, of corners; infinite beyond a limit."""
    few, many = sorted((one, other), key=lambda tree: tree.n)
    distances, _ = many.query(few.data, distance_upper_bound=within + 1e-6)
    return float(np.min(distances))


def pairs_within(
    lesions: Mapping[int, np.ndarray], spacing: Sequence[float], reach: float
) -> Iterator[tuple[int, int, float]]:
    """Pairs of lesions and the gap between their borders in mm, of those that are near.

    Args:
        lesions: voxels (V, 3) by label.
        spacing: voxel size in mm.
        reach: largest gap.
    """
    trees = {label: corner_tree(voxels, spacing) for label, voxels in lesions.items()}
    for one, other in combinations(trees, 2):
        first, second = trees[one], trees[other]
        apart = np.maximum(first.mins - second.maxes, second.mins - first.maxes)
        if np.linalg.norm(np.maximum(apart, 0)) <= reach + 1e-6:
            gap = gap_between(first, second, reach)
            if np.isfinite(gap):
                yield one, other, gap


def moved(found: Iterable[float], wanted: Sequence[float]) -> str:
    """Says that gaps of copies are others than those wanted, with the first one; "" if none is."""
    for gap in found:
        nearest = min(wanted, key=lambda each: abs(each - gap))
        if not np.isclose(gap, nearest):
            return (
                "copies are moved by whole voxels: gap_mm is the gap that they have, the nearest "
                f"to one of --gaps, such as {gap:.4g} mm for {nearest:g}"
            )
    return ""


def copies_beside(
    graft: Graft,
    allowed: np.ndarray,
    gaps: Sequence[float],
    grid: Grid,
    rng: np.random.Generator,
) -> list[tuple[float, float, np.ndarray]]:
    """Places for copies of a lesion beside it, one per gap, all in one direction along an axis.

    It is the direction in which there are most copies, one of them at random. Where voxels are
    large, several wanted gaps may have the same nearest copy, which counts once.

    Args:
        graft: the lesion.
        allowed: (X, Y, Z) bool, where a copy must lie.
        gaps: wanted ones in mm.
        grid: of the scan.
        rng: draws the direction.

    Returns:
        The wanted gap, the gap that whole voxels give, within half a voxel of it, and the first
        voxel (3,) of the copy's box.
    """
    found = []
    for number in rng.permutation(len(_DIRECTIONS)):
        shifts = _shifts(graft, allowed, max(gaps), grid, *_DIRECTIONS[number])
        half = grid.spacing[_DIRECTIONS[number][0]] / 2 + 1e-6
        found.append(_at_gaps(shifts, gaps, half))
    return max(found, key=len)


def _at_gaps(
    shifts: Sequence[tuple[float, np.ndarray]], gaps: Sequence[float], half: float
) -> list[tuple[float, float, np.ndarray]]:
    """The copies nearest to the gaps wanted; each once, for the gap that it comes nearest to."""
    found: dict[float, tuple[float, float, np.ndarray]] = {}
    for gap in gaps:
        place = _nearest(shifts, gap)
        if place is not None and abs(place[0] - gap) <= half:
            earlier = found.setdefault(place[0], (gap, *place))
            if abs(place[0] - gap) < abs(place[0] - earlier[0]):
                found[place[0]] = (gap, *place)
    return list(found.values())


def _nearest(
    shifts: Sequence[tuple[float, np.ndarray]], gap: float
) -> tuple[float, np.ndarray] | None:
    return min(shifts, key=lambda shift: abs(shift[0] - gap), default=None)


def _shifts(
    graft: Graft, allowed: np.ndarray, reach: float, grid: Grid, axis: int, sign: int
) -> list[tuple[float, np.ndarray]]:
    """Gaps and corners of the copies that have room, moved along an axis until too far away."""
    voxels = np.argwhere(graft.omega)
    own = corner_tree(voxels + graft.corner, grid.spacing)
    step = np.zeros(3, int)
    step[axis] = sign
    shifts = []
    for count in range(1, max(allowed.shape)):
        corner = graft.corner + count * step
        places = voxels + corner
        if (places < 0).any() or (places >= allowed.shape).any():
            break
        gap = gap_between(own, corner_tree(places, grid.spacing))
        if gap > reach + grid.spacing[axis]:
            break
        if gap > 0 and allowed[tuple(places.T)].all():
            shifts.append((gap, corner))
    return shifts
