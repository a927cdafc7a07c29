"""The figure of randomisation: how alike maps stay, layer by layer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxsal.figures.charts import legend, new_figure, style
from jaxsal.figures.palette import CHANNELS, INK
from jaxsal.tables import Row
from jaxsal.wording import counted

_LOOKS = ("--", ":", "-.")
_TITLES = {
    "spearman": "Spearman, signed values",
    "spearman_magnitude": "Spearman, magnitudes",
    "ssim": "SSIM",
}


def draw(
    rows: Sequence[Row], channels: Sequence[str], figures: Sequence[str], references: Sequence[str]
) -> Figure:
    """A row of panels per channel: a thin line per lesion, a thick one of their medians.

    Args:
        rows: of the table.
        channels: names of the channels.
        figures: columns of the table.
        references: layers that are none, shown as lines: other noise, distance, other networks.
    """
    lesions = counted(len({(row["scan"], row["label"]) for row in rows}), "lesion")
    title = f"Likeness with the original map as layers are randomised, {lesions}"
    layers = {r["stage"]: r["layer"] for r in rows if r["layer"] not in references}
    figure = new_figure(4.6 * len(figures), 1.6 + 3.2 * len(channels), title)
    panels = figure.subplots(len(channels), len(figures), squeeze=False, sharex=True)
    for line, channel in enumerate(channels):
        for axes, name in zip(panels[line], figures, strict=True):
            own = [r for r in rows if r["channel"] == channel and r.get(name) is not None]
            _curves(axes, [row for row in own if row["layer"] not in references], name)
            for number, reference in enumerate(references):
                look = _LOOKS[min(number, len(_LOOKS) - 1)]
                values = [row[name] for row in own if row["layer"] == reference]
                if values:
                    middle = float(np.median(values))
                    axes.axhline(middle, color=INK, linewidth=1, linestyle=look, label=reference)
            style(axes, f"{channel}: {_TITLES[name]}", "", "likeness with the original")
            axes.set_xticks(list(layers), list(layers.values()), rotation=90, size=7)
            if own:
                legend(axes)
    return figure


def _curves(axes: Axes, rows: Sequence[Row], name: str) -> None:
    lesions: dict[tuple[object, object], list[tuple[int, float]]] = {}
    for row in rows:
        lesions.setdefault((row["scan"], row["label"]), []).append((row["stage"], row[name]))
    for curve in lesions.values():
        axes.plot(*np.array(curve).T, color=CHANNELS[0], alpha=0.25, linewidth=0.8)
    stages = sorted({row["stage"] for row in rows})
    medians = [np.median([row[name] for row in rows if row["stage"] == each]) for each in stages]
    if stages:
        axes.plot(stages, medians, color=CHANNELS[0], linewidth=2, marker="o", label="median")
