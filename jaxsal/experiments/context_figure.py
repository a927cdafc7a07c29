"""The figure of the experiment on context: scores and detections over what is shown (Fig. 15)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from jaxsal.experiments.context_curve import Curve
from jaxsal.figures.charts import legend, new_figure, style
from jaxsal.figures.palette import INK, colour_of
from jaxsal.tables import Row
from jaxsal.wording import counted

_MEAN, _ONE, _MARK = colour_of("TP"), "#8a94a3", colour_of("class")
_ACROSS = "shown around the lesion, mm"
_SCORE = "mean lesion probability in the lesion"


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
