"""The figure of randomisation: how alike maps stay, layer by layer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxsal.experiments.statistics import FEWEST_IN_GROUP
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
    """A row of panels per channel: a thin line per lesion, a thick one of five or more's medians.

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
                _across(axes, values, look, reference)
            style(axes, f"{channel}: {_TITLES[name]}", "", "likeness with the original")
            axes.set_xticks(list(layers), list(layers.values()), rotation=90, size=7)
            if own:
                legend(axes)
    return figure


def _across(axes: Axes, values: Sequence[float], look: str, name: str) -> None:
    """The median of what is no stage as a line; of fewer than five, thin ones of each."""
    enough = len(values) >= FEWEST_IN_GROUP
    for number, value in enumerate([float(np.median(values))] if enough else values):
        width, label = 1.0 if enough else 0.5, "" if number else name
        axes.axhline(value, color=INK, linewidth=width, linestyle=look, label=label)


def _curves(axes: Axes, rows: Sequence[Row], name: str) -> None:
    lesions: dict[tuple[object, object], list[tuple[int, float]]] = {}
    for row in rows:
        lesions.setdefault((row["scan"], row["label"]), []).append((row["stage"], row[name]))
    stages = {n: [r[name] for r in rows if r["stage"] == n] for n in {r["stage"] for r in rows}}
    medians = {n: np.median(v) for n, v in sorted(stages.items()) if len(v) >= FEWEST_IN_GROUP}
    for number, curve in enumerate(lesions.values()):
        label = "each lesion" if not medians and number == 0 else ""
        axes.plot(*np.array(curve).T, color=CHANNELS[0], alpha=0.25, linewidth=0.8, label=label)
    if medians:
        (line,) = axes.plot(
            list(medians), list(medians.values()), color=CHANNELS[0], label="median"
        )
        line.set(linewidth=2, marker="o")
