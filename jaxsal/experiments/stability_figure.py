"""The figure of stability: differences between maps, and the error of the peak, against N."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxsal.experiments.statistics import FEWEST_IN_GROUP
from jaxsal.figures.charts import legend, new_figure, plain_log, style
from jaxsal.figures.palette import CHANNELS, INK
from jaxsal.tables import Row
from jaxsal.wording import counted

_FIGURES = {
    "relative_l2": "relative L2 of two maps",
    "correlation": "correlation of two maps",
    "peak_error": "standard error of the peak / peak",
}


def draw(rows: Sequence[Row], channels: Sequence[str]) -> Figure:
    """A row of panels per channel: a thin line per lesion, a thick one of five or more's medians.

    Args:
        rows: of the table.
        channels: names of the channels.
    """
    lesions = counted(len({(row["scan"], row["label"]) for row in rows}), "lesion")
    title = f"Maps of other noise, by the number of noisy images, {lesions}"
    figure = new_figure(4.3 * len(_FIGURES), 0.6 + 3.4 * len(channels), title)
    panels = figure.subplots(len(channels), len(_FIGURES), squeeze=False, sharex=True)
    for line, channel in enumerate(channels):
        for axes, (name, text) in zip(panels[line], _FIGURES.items(), strict=True):
            own = [r for r in rows if r["channel"] == channel and r[name] is not None]
            aggregates = list(dict.fromkeys(row["aggregate"] for row in own))
            for aggregate, colour in zip(aggregates, CHANNELS, strict=False):
                part = [row for row in own if row["aggregate"] == aggregate]
                _curves(axes, part, name, colour, aggregate)
            axes.set_xscale("log", base=2)
            plain_log(axes.xaxis)
            axes.set_xticks(sorted({row["images"] for row in rows}))
            style(axes, f"{channel}: {text}", "noisy images N per map")
            if name == "peak_error":
                axes.axhline(0.05, color=INK, linewidth=0.8, linestyle=":")
            if own:
                legend(axes)
    return figure


def _curves(axes: Axes, rows: Sequence[Row], name: str, colour: str, aggregate: str) -> None:
    lesions: dict[tuple[object, object], list[tuple[int, float]]] = {}
    for row in rows:
        lesions.setdefault((row["scan"], row["label"]), []).append((row["images"], row[name]))
    numbers = {n: [r[name] for r in rows if r["images"] == n] for n in {r["images"] for r in rows}}
    medians = {n: np.median(v) for n, v in sorted(numbers.items()) if len(v) >= FEWEST_IN_GROUP}
    for number, curve in enumerate(lesions.values()):
        label = aggregate if not medians and number == 0 else ""
        axes.plot(*np.array(curve).T, color=colour, alpha=0.25, linewidth=0.8, label=label)
    if medians:
        (line,) = axes.plot(list(medians), list(medians.values()), color=colour, label=aggregate)
        line.set(linewidth=2, marker="o", markersize=4)
