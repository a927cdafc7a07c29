"""The figure of ablation: peaks against volume, a column per aggregate and a row per channel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxsal.figures.charts import legend, new_figure, plain_log, style
from jaxsal.figures.palette import CHANNELS, INK, UNITS
from jaxsal.tables import Row
from jaxsal.wording import counted

_TITLES = {"max": "signed maximum (Eq. 3)", "mean": "mean (Eq. 2)", "sum": "sum"}
_THIRDS = ("small", "middle", "large")


def draw(rows: Sequence[Row], channels: Sequence[str], aggregates: Sequence[str]) -> Figure:
    """Peaks against volume on logarithmic axes, thirds in colours, with the fitted line.

    Args:
        rows: of the table.
        channels: names of the channels.
        aggregates: names of the aggregates.
    """
    lesions = counted(len({(row["scan"], row["label"]) for row in rows}), "lesion")
    title = f"Peak against volume by aggregate, {lesions}"
    figure = new_figure(4.2 * len(aggregates), 0.6 + 3.4 * len(channels), title)
    panels = figure.subplots(len(channels), len(aggregates), squeeze=False, sharex=True)
    for line, channel in enumerate(channels):
        for column, aggregate in enumerate(aggregates):
            own = [r for r in rows if (r["channel"], r["aggregate"]) == (channel, aggregate)]
            _panel(panels[line, column], own)
            style(
                panels[line, column],
                f"{channel}, {_TITLES[aggregate]}",
                "volume of the lesion, mm³",
                f"peak magnitude, {UNITS}",
            )
    legend(panels[0, -1], loc="lower right")  # where peaks grow with volume
    return figure


def _panel(axes: Axes, rows: Sequence[Row]) -> None:
    shown = [row for row in rows if row["peak"] > 0]
    for third, colour in zip(_THIRDS, CHANNELS, strict=False):
        own = [row for row in shown if row["third"] == third]
        places = [row["volume_mm3"] for row in own], [row["peak"] for row in own]
        label = f"{third} third: n = {len(own):,}"
        axes.scatter(*places, s=14, color=colour, alpha=0.75, linewidths=0, label=label)
    if not shown:
        return
    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis in (axes.xaxis, axes.yaxis):
        plain_log(axis)
    volumes, peaks = np.log([(row["volume_mm3"], row["peak"]) for row in shown]).T
    if np.ptp(volumes) > 0:
        line = np.polynomial.Polynomial.fit(volumes, peaks, 1)
        ends = np.array([volumes.min(), volumes.max()])
        axes.plot(np.exp(ends), np.exp(line(ends)), color=INK, linewidth=1)
