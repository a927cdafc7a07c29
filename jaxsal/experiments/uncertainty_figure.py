"""The figure of `uncertainty`: candidates found, lesions' uncertainty by kind, peaks compared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxsal.figures.charts import legend, new_figure, style
from jaxsal.figures.distributions import draw_distribution
from jaxsal.figures.palette import INK, colour_of
from jaxsal.tables import Row
from jaxsal.wording import counted

_KINDS = ("TP", "FP", "FN")
_APART = 0.06  # of the axis: numbers nearer than that would overlap


def draw(
    rows: Sequence[Row], curve: Sequence[Row], channels: Sequence[str], members: str
) -> Figure:
    """Draws the findings.

    Args:
        rows: of lesions.
        curve: of thresholds.
        channels: whose maps were compared.
        members: what they are.
    """
    scans = counted(len({row["scan"] for row in rows}), "scan")
    title = f"What the network is uncertain of: members by {members}, {scans}"
    compared = any(row[f"{c}_correlation"] is not None for row in rows for c in channels)
    figure = new_figure(13.2 if compared else 9.2, 4.2, title)
    froc, kinds, *others = figure.subplots(1, 3 if compared else 2)
    _draw_curve(froc, curve)
    values = {kind: _values(rows, kind) for kind in _KINDS}
    style(kinds, "Lesion structural uncertainty")
    draw_distribution(kinds, {kind: found for kind, found in values.items() if len(found)}, "LSU")
    for peaks in others:
        _draw_ratios(peaks, rows, channels)
    return figure


def _values(rows: Sequence[Row], kind: str) -> np.ndarray:
    return np.array([row["lsu"] for row in rows if row["kind"] == kind], np.float64)


def _draw_curve(axes: Axes, curve: Sequence[Row]) -> None:
    style(
        axes,
        "Candidates for missed lesions, by least entropy",
        "candidates per scan that touch no true lesion",
        "share of missed lesions with a candidate on them",
    )
    false = [row["false_per_scan"] for row in curve]
    share = [np.nan if row["share"] is None else row["share"] for row in curve]
    axes.plot(false, share, color=colour_of("FN"), marker="o", markersize=4)
    place: dict[str, Any] = {"xytext": (4, 4), "textcoords": "offset points"}
    last = np.inf
    for row, x, y in zip(curve, false, share, strict=True):  # from many candidates to few
        if np.isfinite(y) and last - x > _APART * max(false):
            axes.annotate(f"{row['threshold']:g}", (x, y), size=7, color=INK, **place)
            last = x
    axes.set_ylim(-0.03, 1.03)
    if not np.isfinite(share).any():
        missed = max(row["missed"] for row in curve)
        why = f"{counted(missed, 'missed lesion')}: too few" if missed else "no lesion was missed"
        axes.text(0.5, 0.5, why, ha="center", transform=axes.transAxes, color=INK, size=9)


def _draw_ratios(axes: Axes, rows: Sequence[Row], channels: Sequence[str]) -> None:
    style(
        axes,
        "Maps of candidates beside those of experts' marks",
        "correlation of the maps",
        "peak of the candidate over the mark's",
    )
    for channel, colour in zip(channels, ("FN", "TP", "FP", "TN"), strict=False):
        pairs = [(row[f"{channel}_correlation"], row[f"{channel}_peak_ratio"]) for row in rows]
        shown = np.array([pair for pair in pairs if None not in pair], float).reshape(-1, 2)
        axes.scatter(shown[:, 0], shown[:, 1], s=14, color=colour_of(colour), label=channel)
    axes.axhline(1, color=INK, linewidth=0.8)
    legend(axes)
