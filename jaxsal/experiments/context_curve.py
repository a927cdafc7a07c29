"""The curve of scores over lesions by how much is shown around them, and what is read off it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from jaxsal.tables import Row

PLATEAU = 0.05
"""Share of the mean score's whole range, within which of its last value it is on the plateau."""


@dataclass(frozen=True)
class Curve:
    """Scores over lesions, step by step.

    Attributes:
        steps: (D,) numbers of dilations.
        mm: (D,) the same in mm, median over lesions.
        mean: (D,) mean score.
        std: (D,) standard deviation of the scores, the sample's (n - 1); NaN of a single lesion.
        detected: (D,) lesions detected.
        lesions: their number.
        scan_score: mean score in the scans as they are.
    """

    steps: np.ndarray
    mm: np.ndarray
    mean: np.ndarray
    std: np.ndarray
    detected: np.ndarray
    lesions: int
    scan_score: float

    @property
    def plateau(self) -> int | None:
        """The place from which on the mean score stays near its last value; None if from none.

        The last place itself says nothing. Near: within `PLATEAU` of the difference of its largest
        and smallest value.
        """
        near = np.abs(self.mean - self.mean[-1]) <= PLATEAU * np.ptp(self.mean)
        first = _always_from(near)
        return first if first < len(near) - 1 else None

    @property
    def all_detected(self) -> int | None:
        """The place from which on all lesions are detected; None if from none."""
        first = _always_from(self.detected == self.lesions)
        return first if first < len(self.steps) else None


def _always_from(true: np.ndarray) -> int:
    """The first place from which on it is always true; the length if it is not in the end."""
    return 0 if true.all() else len(true) - int(np.argmin(true[::-1]))


def curve_of(rows: Sequence[Row]) -> Curve:
    """The curve over lesions of these rows, each of which has all steps."""
    steps = np.unique([row["step"] for row in rows])
    lesions = len(rows) // len(steps)

    def table(key: str) -> np.ndarray:
        """(lesions, steps)."""
        return np.array([row[key] for row in rows], float).reshape(lesions, len(steps))

    score = table("score")
    return Curve(
        steps,
        np.median(table("mm"), axis=0),
        score.mean(0),
        score.std(0, ddof=1) if lesions > 1 else np.full(len(steps), np.nan),
        table("detected").sum(0).astype(int),
        lesions,
        float(table("scan_score").mean()),
    )
