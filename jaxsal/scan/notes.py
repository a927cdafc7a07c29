"""What looks like a mistake in a scan's files or its lesions, said in sentences."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from jaxsal.metrics import LesionCounts, dice
from jaxsal.voxels import nothing_segmented

if TYPE_CHECKING:
    from jaxsal.model import Model
    from jaxsal.scan.prediction import Prediction

_MOVES = (6.0, 12.0)  # mm: more than lesions are wide, less than the region that they come in
_TIMES = 1.5  # the overlap at the best of those places
_GOOD = 0.4  # Dice that chance does not reach
_FEWEST = 5  # lesions of each, below which nothing can be said
_POINTS = 20_000  # voxels that are looked at


def notes_of(model: Model, prediction: Prediction) -> tuple[str, ...]:
    """All that looks like a mistake in a scan's files or its lesions, in sentences."""
    return (*prediction.scan.notes, *_unsegmented(model, prediction), *_doubts(prediction))


def _unsegmented(model: Model, prediction: Prediction) -> tuple[str, ...]:
    """What to say of a scan of which no voxel is segmented; nothing of others."""
    if prediction.segmented.any() or prediction.scan.labels is not None:
        return ()
    highest = float(prediction.probability.max())
    outputs, kind = model.config.out_channels, model.probability
    return (nothing_segmented(highest, prediction.threshold, outputs, kind),)


def _doubts(prediction: Prediction) -> tuple[str, ...]:
    """What to say of a reference that seems to be of another scan; nothing of others."""
    scan = prediction.scan
    if scan.reference is None:
        return ()
    counts = LesionCounts.of(prediction.instances)
    return doubtful_reference(prediction.segmented, scan.reference, counts, prediction.grid.spacing)


def doubtful_reference(
    found: np.ndarray,
    reference: np.ndarray,
    counts: LesionCounts,
    spacing: tuple[float, float, float],
) -> tuple[str, ...]:
    """What to say of a reference that seems not to belong to its scan; nothing of others.

    Lesions come in the same regions in all patients, so that references of others overlap with a
    prediction, too, but hardly less if they are moved by 6 or 12 mm in whatever direction. The
    right one overlaps at least 1.5 times as much as at the best of these places, or more than there
    and with a Dice score of 0.4. Of fewer than 5 lesions on either side nothing is said.

    Args:
        found: (X, Y, Z) bool, the voxels that were found.
        reference: (X, Y, Z) bool, the true ones.
        counts: numbers of lesions.
        spacing: voxel size in mm along X, Y, Z.
    """
    if min(counts.tp + counts.fp, counts.tp + counts.fn) < _FEWEST:
        return ()
    times = 1.0 if dice(found, reference) >= _GOOD else _TIMES
    here, elsewhere = _overlaps(found, reference, spacing)
    if here >= times * elsewhere:
        return ()
    return (
        "the reference overlaps with the lesions that were found hardly more than by chance, or "
        f"less than where it does not lie ({counts.tp} of {counts.tp + counts.fp} found are TP, "
        f"{counts.fn} are missed): check that it is of this scan, and on its grid",
    )


def _overlaps(
    found: np.ndarray, reference: np.ndarray, spacing: tuple[float, float, float]
) -> tuple[int, int]:
    """Voxels of the reference that were found, where it lies and where it would be most."""
    voxels = np.argwhere(reference)
    voxels = voxels[:: -(-len(voxels) // _POINTS)]

    def overlap(shift: np.ndarray) -> int:
        moved = voxels + shift
        known = ((moved >= 0) & (moved < found.shape)).all(1)
        return int(np.count_nonzero(found[tuple(moved[known].T)]))

    directions = [np.array(d) / np.linalg.norm(d) for d in product((-1, 0, 1), repeat=3) if any(d)]
    moves = (size * each / spacing for size, each in product(_MOVES, directions))
    best = max(overlap(np.rint(move).astype(int)) for move in moves)
    return overlap(np.zeros(3, int)), best
