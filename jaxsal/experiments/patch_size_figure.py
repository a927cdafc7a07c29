"""The figure of `patch-size`: the plateau of each network and patient against its patches."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxsal.figures.charts import legend, new_figure, style
from jaxsal.figures.palette import CHANNELS, INK
from jaxsal.tables import Row
from jaxsal.wording import counted

_APART = 0.012  # of the axis, between the seeds of one patch size


def draw(rows: Sequence[Row], slope: Row) -> Figure:
    """Draws the plateaus, a point per network and patient, seeds side by side in their colours.

    Args:
        rows: of the table.
        slope: over all networks.
    """
    shown = [row for row in rows if row["plateau_mm"] is not None]
    patients = counted(len({row["subject"] for row in rows}), "patient")
    models = counted(len({row["model"] for row in rows}), "network")
    figure = new_figure(7.2, 4.6, f"Context plateau by patch size, {models}, {patients}")
    axes = figure.subplots()
    title = f"{_title(slope)}; no plateau: {len(rows) - len(shown)}"
    style(axes, title, "edge of the training's patches, mm", "plateau, mm around the lesion")
    _points(axes, shown)
    if shown and slope["value"] is not None:
        patches, plateaus = np.array([(r["patch_mm"], r["plateau_mm"]) for r in shown]).T
        ends = np.array([patches.min(), patches.max()])
        line = plateaus.mean() + slope["value"] * (ends - patches.mean())
        axes.plot(ends, line, color=INK, linewidth=1)
    axes.set_ylim(bottom=-0.5)
    return figure


def _title(slope: Row) -> str:
    if slope["value"] is None:
        return f"No slope (n = {slope['n']})"
    interval = "no interval"
    if slope["low"] is not None:
        interval = f"95 % interval {slope['low']:.2g} to {slope['high']:.2g}"
    return f"Slope {slope['value']:.2g} mm per mm, {interval} (n = {slope['n']})"


def _points(axes: Axes, rows: Sequence[Row]) -> None:
    seeds = sorted({row["seed"] for row in rows}, key=lambda seed: (seed is None, seed))
    if not seeds:
        return
    spread = max(row["patch_mm"] for row in rows) * _APART
    for place, seed in enumerate(seeds):
        own = [row for row in rows if row["seed"] == seed]
        shift = spread * (place - (len(seeds) - 1) / 2)
        axes.scatter(
            [row["patch_mm"] + shift for row in own],
            [row["plateau_mm"] for row in own],
            s=16,
            alpha=0.7,
            linewidths=0,
            color=CHANNELS[place % len(CHANNELS)],
            label="seed not recorded" if seed is None else f"seed {seed}",
        )
    legend(axes)
