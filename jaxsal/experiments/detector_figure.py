"""The figure of `detector`: ROC curves, and the probabilities of lesions held out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxsal.experiments.detector_pruning import MODELS
from jaxsal.experiments.detector_summary import BY_REGION, PAIRS, area, measures, scores
from jaxsal.extras import import_extra
from jaxsal.figures.charts import legend, new_figure, style
from jaxsal.figures.distributions import draw_distribution
from jaxsal.figures.palette import CHANNELS, INK, LINE
from jaxsal.tables import Row
from jaxsal.wording import counted

_NAMES = {
    "volume_mm3": "volume",
    "p_true": "regression on maps and volume",
    "p_true_volume": "regression on the volume",
    BY_REGION: "regressions by region",
}


def draw(rows: Sequence[Row], maps: Sequence[str]) -> Figure:
    """Draws the findings.

    Args:
        rows: of the table.
        maps: names of the maps.
    """
    scans = counted(len({row["scan"] for row in rows}), "scan")
    held_out = any(row["p_true"] is not None for row in rows)
    panels = 3 if held_out else 2
    figure = new_figure(4.6 * panels, 6.0, f"True and false lesions by their maps, {scans}")
    axes = figure.subplots(1, panels)
    for panel, pair in zip(axes, PAIRS, strict=False):
        _draw_curves(panel, rows, maps, pair)
    if held_out:
        style(axes[2], "Lesions held out, by maps and volume")
        kinds = {
            kind: np.array(
                [r["p_true"] for r in rows if r["kind"] == kind and r["fold"] is not None]
            )
            for kind in PAIRS[0]
        }
        shown = {kind: values for kind, values in kinds.items() if len(values)}
        draw_distribution(axes[2], shown, "probability of being true")
    return figure


def _draw_curves(
    axes: Axes, rows: Sequence[Row], maps: Sequence[str], pair: tuple[str, str]
) -> None:
    roc_curve = import_extra(
        "sklearn.metrics", "statistics", "the ROC curve", "scikit-learn"
    ).roc_curve
    first, second = pair
    style(axes, f"{first} against {second}", f"share of {second} above", f"share of {first} above")
    axes.plot([0, 1], [0, 1], color=LINE, linewidth=1)
    drawn = False
    for measure in measures(maps, pair, rows):
        found = area(rows, pair, measure)["auc"]
        if found is None:
            continue
        values, _ = scores(rows, pair, measure)
        across, up, _ = roc_curve(values[:, 1], values[:, 0])
        name = _NAMES.get(measure) or " ".join(measure.rsplit("_", 1))
        axes.plot(across, up, label=f"{name}: AUC {found:.2f}", **_line(measure, maps))
        drawn = True
    if drawn:
        legend(axes, loc="upper center", bbox_to_anchor=(0.5, -0.14))
    else:
        axes.text(0.5, 0.5, "too few", ha="center", va="center", color=INK, size=9)


def _line(measure: str, maps: Sequence[str]) -> dict[str, Any]:
    """How a measure's curve is drawn."""
    if measure in _NAMES:
        strong = measure == MODELS[0]
        pattern = {MODELS[0]: "-", MODELS[1]: ":", BY_REGION: "--"}.get(measure, "-.")
        return {"color": INK, "linewidth": 2 if strong else 1, "linestyle": pattern}
    name, extreme = measure.rsplit("_", 1)
    colour = CHANNELS[list(maps).index(name) % len(CHANNELS)]
    return {"color": colour, "linewidth": 1.2, "linestyle": "-" if extreme == "max" else "--"}
