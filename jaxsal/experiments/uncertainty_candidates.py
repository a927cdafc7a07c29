"""Whether what a network is uncertain of lies on the lesions that it missed.

Threshold by threshold that is a FROC curve: share of missed lesions against false candidates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxsal.lesions import Instance
    from jaxsal.scan.prediction import Prediction


@dataclass(frozen=True)
class Marks:
    """Candidates of a scan against the experts' marks.

    Attributes:
        pairs: of each missed lesion with a candidate on it, by label, the candidate that shares
            most voxels with it.
        candidates: how many there are.
        false: how many of them touch no true lesion at all, found or missed.
    """

    pairs: dict[int, int]
    candidates: int
    false: int


def marks_of(candidates: np.ndarray, prediction: Prediction) -> Marks:
    """What a scan's candidates lie on.

    Args:
        candidates: (X, Y, Z) int32, labelled from 1 on.
        prediction: the scan's lesions, against a reference.
    """
    reference = prediction.scan.reference
    assert reference is not None  # scans without one are left out
    count = int(candidates.max(initial=0))
    hits = np.unique(candidates[reference != 0])
    pairs = {}
    for missed in missed_in(prediction):
        own = missed.box.cut(prediction.labels) == missed.label
        shared = np.bincount(missed.box.cut(candidates)[own], minlength=1)[1:]
        if shared.any():
            pairs[missed.label] = 1 + int(shared.argmax())
    return Marks(pairs, count, count - int(np.count_nonzero(hits)))


def missed_in(prediction: Prediction) -> list[Instance]:
    """The true lesions that were not found."""
    return [each for each in prediction.instances if each.kind == "FN"]


def only(labels: np.ndarray, wanted: Sequence[int]) -> np.ndarray:
    """A label map with these labels alone."""
    return np.where(np.isin(labels, list(wanted)), labels, 0)
