"""Whether the images of a scan are aligned: a quick test, which registers nothing.

The mutual information of two images of one head is largest where they are aligned (Viola and Wells
1997, Maes et al. 1997). If a small move increases it clearly, they are not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from jaxsal.grid import Grid
from jaxsal.inputs.background import bounds

_POINTS = 20_000  # voxels that are compared in the head, and as many in the box around it
_BINS = 16  # of intensities; background is one more
_SHIFTS = (3.0, 6.0, 12.0)  # mm
_TURNS = (2.5, 5.0)  # degrees
_CLEARLY = 1.1  # times the information
_LEAST = 0.01  # nats more of it
_FEWEST = 4 * _BINS**2  # points, below which the information is unknown
_SIGMAS = 5.0  # of the information that unrelated images have by chance

Spacing = tuple[float, float, float]


def unregistered(names: Sequence[str], image: np.ndarray, grid: Grid) -> Iterator[tuple[int, str]]:
    """Yields each image of a scan that seems not to lie on the first one, with a warning.

    Args:
        names: of the images.
        image: (X, Y, Z, C), 0 in the background.
        grid: of the image.
    """
    for channel, name in enumerate(names[1:], start=1):
        move = misaligned(image[..., 0], image[..., channel], grid.spacing)
        if move:
            yield (
                channel,
                f"{name} does not seem to lie on {names[0]}: of the few moves that were tried, it "
                f"fits better when {move}; register it (`jaxsal preprocess`), or check that both "
                "are of one scan",
            )


@dataclass(frozen=True, eq=False)
class _Move:
    """A shift in voxels, and a turn (3, 3) about the middle of the head."""

    voxels: tuple[int, int, int]
    turn: np.ndarray
    words: str


def misaligned(fixed: np.ndarray, moving: np.ndarray, spacing: Spacing) -> str:
    """The move by which an image would lie clearly better on another one, in words.

    A move counts if it is better within both heads, or with their outlines. Outlines show large
    moves, but are of no use where one mask cut out both heads.

    Args:
        fixed: (X, Y, Z), 0 in the background.
        moving: the other one, likewise.
        spacing: voxel size in mm along X, Y, Z.

    Returns:
        "" if no move is clearly better. Tried are shifts by 3, 6 and 12 mm along an axis, a shift
        along all axes, and turns by 2.5 and 5 degrees about an axis.
    """
    if not fixed.any() or not moving.any():
        return ""
    compared = _Compared.of(fixed, moving, spacing)
    here = np.maximum(compared.information(_shift(0, 0, 0))[0], 0)

    def gain(move: _Move) -> float:
        """More than 1 if the images lie clearly better there."""
        there, chance = compared.information(move)
        needed = np.maximum(_CLEARLY * here, here + np.maximum(_LEAST, _SIGMAS * chance))
        return float((there / needed).max())

    found = {move: gain(move) for move in _moves(spacing)}
    shifts = [move for move in found if any(move.voxels)]
    along = [[move for move in shifts if move.voxels[axis]] for axis in range(3)]
    best_along = (max(moves, key=lambda move: found[move]) for moves in along)
    diagonal = _shift(*(move.voxels[axis] for axis, move in enumerate(best_along)))
    found[diagonal] = gain(diagonal)
    best = max(found, key=lambda move: found[move])
    return best.words if found[best] > 1 else ""


@dataclass(frozen=True, eq=False)
class _Compared:
    """Points of a fixed image, to compare with a moving one.

    Attributes:
        points: (P, 3) voxels, relative to the middle of the head.
        middle: (3,) voxel, of the head.
        bins: (P,) intensity bins of the fixed image.
        others: (X, Y, Z) intensity bins of the moving image.
        spacing: voxel size in mm.
    """

    points: np.ndarray
    middle: np.ndarray
    bins: np.ndarray
    others: np.ndarray
    spacing: Spacing

    @classmethod
    def of(cls, fixed: np.ndarray, moving: np.ndarray, spacing: Spacing) -> _Compared:
        box = bounds((fixed != 0) | (moving != 0))
        head = box.cut(fixed) != 0
        within, around = _some(head) + box.start, _some(~head) + box.start
        points = np.concatenate([within, around])
        middle, bins = within.mean(0), _bins(fixed)[tuple(points.T)]
        return cls(points - middle, middle, bins, _bins(moving), spacing)

    def information(self, move: _Move) -> tuple[np.ndarray, np.ndarray]:
        """Mutual information (2,): within both heads, and with the background around them.

        And its standard deviations (2,) for unrelated images.
        """
        spacing, shift = np.asarray(self.spacing), np.asarray(move.voxels)
        moved = self.points * spacing @ move.turn.T / spacing + self.middle + shift
        voxels = np.rint(moved).astype(int)
        known = ((voxels >= 0) & (voxels < self.others.shape)).all(1)
        bins, others = self.bins[known], self.others[tuple(voxels[known].T)]
        both = (bins > 0) & (others > 0)
        found = [_information(bins[both], others[both]), _information(bins, others)]
        points = np.array([np.count_nonzero(both), len(bins)])
        return np.array(found), (_BINS - 1) / (np.sqrt(2) * np.maximum(points, 1))


def _some(mask: np.ndarray) -> np.ndarray:
    """(P, 3) some voxels of a mask, at random, none of them twice."""
    inside = np.flatnonzero(mask)
    count = min(_POINTS, inside.size)
    chosen = np.random.default_rng(0).choice(inside, count, replace=False)
    return np.stack(np.unravel_index(chosen, mask.shape), axis=-1)


def _moves(spacing: Spacing) -> Iterator[_Move]:
    for axis, name in enumerate(("first", "second", "third")):
        sizes = {max(round(size / spacing[axis]), 1) for size in _SHIFTS}
        for voxels in sorted(sign * size for size in sizes for sign in (-1, 1)):
            yield _shift(*(voxels if axis == other else 0 for other in range(3)))
        for degrees in (sign * turn for turn in _TURNS for sign in (-1, 1)):
            words = f"turned by about {abs(degrees):g}° about its {name} axis"
            yield _Move((0, 0, 0), _turn(axis, degrees), words)


def _shift(x: int, y: int, z: int) -> _Move:
    # The image moves the other way than the points.
    return _Move((x, y, z), np.eye(3), f"shifted by about ({-x}, {-y}, {-z}) voxels")


def _turn(axis: int, degrees: float) -> np.ndarray:
    i, j = (other for other in range(3) if other != axis)
    cosine, sine = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    matrix = np.eye(3)
    matrix[[i, i, j, j], [i, j, i, j]] = cosine, -sine, sine, cosine
    return matrix


def _bins(image: np.ndarray) -> np.ndarray:
    """Bins of equal width from 1 on, the outer ones with all beyond; 0 in the background."""
    some = image[::3, ::3, ::3]
    some = some[some != 0] if some.any() else image[image != 0]
    low, high = map(float, np.percentile(some, (1, 99)))
    width = (high - low) / _BINS or 1.0
    bins = 1 + np.clip((image - low) / width, 0, _BINS - 1).astype(np.int8)
    return np.where(image != 0, bins, np.int8(0))


def _information(first: np.ndarray, second: np.ndarray) -> float:
    """Mutual information in nats, without the bias of finite samples (Miller 1955)."""
    if first.size < _FEWEST:
        return 0.0
    size = _BINS + 1
    joint = np.bincount(first.astype(int) * size + second, minlength=size**2) / first.size
    table = joint.reshape(size, size)
    found = _entropy(table.sum(0)) + _entropy(table.sum(1)) - _entropy(joint)
    return found - (_BINS - 1) ** 2 / (2 * first.size)


def _entropy(shares: np.ndarray) -> float:
    some = shares[shares > 0]
    return float(-(some * np.log(some)).sum())
