"""How uncertain a network is of a scan's voxels and of its lesions, by how its members differ.

Members are taken one after the other: what is kept of them are running figures, never their maps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy import special

from jaxsal.scan.candidates import candidates_of

if TYPE_CHECKING:
    from jaxsal.lesions import Instance
    from jaxsal.scan.prediction import Prediction
    from jaxsal.settings import PredictSettings, UncertaintySettings
    from jaxsal.tables import Row


@dataclass(frozen=True, eq=False)
class Uncertainty:
    """How uncertain a network is of a scan, on the scan's grid.

    Attributes:
        entropy: (X, Y, Z) float32, predictive entropy in nats; see `predictive_entropy`.
        variance: (X, Y, Z) float32, of the lesion probability over the members, each counted
            fully: the mean squared deviation from their mean.
        rows: of each lesion "lsu" and "entropy", by label; see `Overlaps`.
        candidates: (X, Y, Z) int32, labels of what may be missed lesions; None if not asked for.
    """

    entropy: np.ndarray
    variance: np.ndarray
    rows: Mapping[int, Row]
    candidates: np.ndarray | None = None

    @property
    def volumes(self) -> dict[str, np.ndarray]:
        """The maps by name."""
        found = {"entropy": self.entropy, "variance": self.variance}
        return found if self.candidates is None else {**found, "candidates": self.candidates}

    def with_candidates(
        self, prediction: Prediction, finding: PredictSettings, settings: UncertaintySettings
    ) -> Uncertainty:
        """The same with candidates for missed lesions, if they are asked for."""
        if settings.candidates is None:
            return self
        place = prediction.grid, finding.minimum_volume
        found = candidates_of(self.entropy, prediction.segmented, settings.candidates, *place)
        return replace(self, candidates=found)


def predictive_entropy(probability: np.ndarray) -> np.ndarray:
    """Entropy in nats of lesion against all else, from 0 to ln 2 = 0.693.

    Args:
        probability: of lesion, the mean over members.
    """
    found: np.ndarray = special.entr(probability) + special.entr(1 - probability)
    return found


class Moments:
    """Mean and variance of arrays that come one after the other (Welford 1962).

    Attributes:
        count: how many were added.
        mean: float64, of all that were added.
    """

    def __init__(self) -> None:
        self.count = 0
        self.mean = np.zeros(())
        self._squares = np.zeros(())

    def add(self, values: np.ndarray) -> None:
        """Adds an array of the same shape as all others."""
        self.count += 1
        before = values - self.mean
        self.mean = self.mean + before / self.count
        self._squares = self._squares + before * (values - self.mean)

    @property
    def variance(self) -> np.ndarray:
        """Mean squared deviation from the mean."""
        return self._squares / self.count


class Overlaps:
    """How far members agree on lesions: lesion structural uncertainty, LSU.

    LSU is 1 - the mean over members of the largest intersection over union that the lesion has
    with one of the member's lesions; 0 for a member without a lesion there (Molchanova et al. 2025,
    Comput Biol Med 184:109336; their published code takes the largest, too). Members' lesions are
    found as the scan's are: by the same threshold, connectivity and minimum volume.

    Args:
        labels: (X, Y, Z) integers, the lesions.
        instances: which of the labels count.
    """

    def __init__(self, labels: np.ndarray, instances: Sequence[Instance]) -> None:
        self._labels = np.sort(np.array([each.label for each in instances], int))
        self._inside = np.isin(labels, self._labels) & (labels != 0)
        self._lesion = np.searchsorted(self._labels, labels[self._inside])
        self._voxels = np.bincount(self._lesion, minlength=len(self._labels))
        self._sum, self._count = np.zeros(len(self._labels)), 0

    def add(self, others: np.ndarray) -> None:
        """Adds a member's lesions (X, Y, Z), labelled from 1 on."""
        self._count += 1
        sizes, there = np.bincount(others.ravel()), others[self._inside]
        pairs, shared = np.unique(
            np.stack([self._lesion, there])[:, there > 0], axis=1, return_counts=True
        )
        union = self._voxels[pairs[0]] + sizes[pairs[1]] - shared
        best = np.zeros(len(self._labels))
        np.maximum.at(best, pairs[0], shared / union)
        self._sum += best

    def rows(self, entropy: np.ndarray) -> dict[int, Row]:
        """LSU of each lesion and the mean of an entropy map (X, Y, Z) over it, by label."""
        lsu = 1 - self._sum / self._count
        total = np.bincount(self._lesion, entropy[self._inside], minlength=len(self._labels))
        mean = total / self._voxels
        found = zip(self._labels.tolist(), lsu.tolist(), mean.tolist(), strict=True)
        return {label: {"lsu": one, "entropy": other} for label, one, other in found}
