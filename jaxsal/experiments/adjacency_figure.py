"""The figure of adjacency: bleed against the gap between two lesions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from jaxsal.experiments.adjacency_summary import EDGES, SMALL
from jaxsal.experiments.statistics import FEWEST_IN_GROUP
from jaxsal.figures.charts import legend, new_figure, style
from jaxsal.figures.palette import CHANNELS, INK
from jaxsal.tables import Row

_LEAST = 1e-4
_SOURCES = {"real": "two lesions of a scan", "copy": "a lesion and a copy of it"}


def draw(rows: Sequence[Row]) -> Figure:
    """A row of panels per source of pairs, a column per channel; lines join medians of classes.

    Classes of fewer than five pairs have none.

    Args:
        rows: of the table.
    """
    sources = [source for source in _SOURCES if any(row["source"] == source for row in rows)]
    channels = list(dict.fromkeys(row["channel"] for row in rows))
    methods = list(dict.fromkeys(row["method"] for row in rows))
    figure = new_figure(
        4.6 * len(channels), 0.6 + 3.6 * len(sources), "How much of a lesion's neighbour shows"
    )
    panels = figure.subplots(len(sources), len(channels), squeeze=False, sharex=True, sharey=True)
    for line, source in enumerate(sources):
        for column, channel in enumerate(channels):
            axes = panels[line, column]
            for method, colour in zip(methods, CHANNELS, strict=False):
                own = [
                    row
                    for row in rows
                    if (row["source"], row["channel"], row["method"]) == (source, channel, method)
                    and row["bleed"] is not None
                ]
                if not own:
                    continue
                gaps = np.array([row["gap_mm"] for row in own])
                bleeds = np.maximum([row["bleed"] for row in own], _LEAST)
                label = f"{method}: n = {len(own):,}"
                axes.scatter(gaps, bleeds, s=12, color=colour, alpha=0.6, linewidths=0, label=label)
                axes.plot(*_medians(gaps, bleeds), color=colour, linewidth=1.4)
            axes.set_yscale("log")
            axes.axhline(SMALL, color=INK, linewidth=0.8, linestyle=":")
            style(
                axes,
                f"{channel}: {_SOURCES[source]}",
                "gap between their borders, mm",
                f"peak in the neighbour / in the lesion\n({_LEAST:g} if smaller)",
            )
            if axes.collections:
                legend(axes, loc="upper right")
    return figure


def _medians(gaps: np.ndarray, bleeds: np.ndarray) -> tuple[list[float], list[float]]:
    places = np.searchsorted(EDGES, gaps, side="right")
    classes = [c for c in np.unique(places) if np.count_nonzero(places == c) >= FEWEST_IN_GROUP]
    return (
        [float(np.median(gaps[places == each])) for each in classes],
        [float(np.median(bleeds[places == each])) for each in classes],
    )
