"""The curve of scores over lesions by how much is shown around them, and its figure (Fig. 15)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from jaxsal.figures.charts import legend, new_figure, style
from jaxsal.figures.palette import INK, colour_of
from jaxsal.tables import Row
from jaxsal.wording import counted

PLATEAU = 0.05
"""Share of the mean score's whole range, within which of its last value it is on the plateau."""

_MEAN, _ONE, _MARK = colour_of("TP"), "#8a94a3", colour_of("class")
_ACROSS = "shown around the lesion, mm"
_SCORE = "mean lesion probability in the lesion"


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


def context_figure(rows: Sequence[Row], curve: Curve, threshold: float) -> Figure:
    """Draws the mean score with its standard deviation, each lesion's, and the detections.

    Args:
        rows: per lesion and step.
        curve: over lesions.
        threshold: lesion probability at which a lesion is detected.
    """
    lesions = counted(curve.lesions, "lesion")
    figure = new_figure(10.4, 4.5, f"Scores by what is shown around a lesion, {lesions}")
    left, right = figure.subplots(1, 2)
    _draw_scores(left, rows, curve, threshold)
    _draw_detections(right, curve)
    return figure


def _draw_scores(axes: Axes, rows: Sequence[Row], curve: Curve, threshold: float) -> None:
    own = np.array([row["score"] for row in rows]).reshape(curve.lesions, -1)
    for index, scores in enumerate(own):
        name = "each lesion" if index == 0 else None
        axes.plot(curve.mm, scores, color=_ONE, linewidth=0.7, alpha=0.6, label=name)
    if curve.lesions > 1:
        low, high = curve.mean - curve.std, curve.mean + curve.std
        axes.fill_between(
            curve.mm, low, high, color=_MEAN, alpha=0.22, linewidth=0, label="± std over lesions"
        )
    axes.plot(curve.mm, curve.mean, color=_MEAN, linewidth=2.2, label="mean")
    axes.axhline(curve.scan_score, color=INK, linewidth=0.9, linestyle=":", label="whole scan")
    axes.axhline(threshold, color=_MARK, linewidth=0.9, linestyle="--", label="threshold")
    plateau = "no plateau"
    if curve.plateau is not None:
        place = curve.mm[curve.plateau]
        axes.plot(place, curve.mean[curve.plateau], "o", color=_MEAN, markersize=7)
        plateau = f"plateau from {place:.3g} mm on"
    axes.set_ylim(-0.03, 1.03)
    style(axes, f"Score: {plateau} (n = {curve.lesions})", _ACROSS, _SCORE)
    legend(axes, loc="lower right")


def _draw_detections(axes: Axes, curve: Curve) -> None:
    # What is detected at a step is drawn from there on, so that the line rises where it was found.
    axes.step(
        curve.mm, curve.detected, ".", where="post", color=_MEAN, linestyle="-", linewidth=2.2
    )
    axes.axhline(curve.lesions, color=INK, linewidth=0.9, linestyle=":")
    axes.set_ylim(-0.03 * curve.lesions, 1.06 * curve.lesions)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    title = f"Detected: {_when_all(curve)} (n = {curve.lesions})"
    style(axes, title, _ACROSS, "lesions detected")


def _when_all(curve: Curve) -> str:
    """The first step from which on all lesions are detected, in mm as it was computed."""
    if curve.all_detected is None:
        return "never all of them"
    if curve.all_detected == 0:
        return "all at every step"
    return f"all from {curve.mm[curve.all_detected]:.3g} mm on"
