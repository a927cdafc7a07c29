"""The curves of `faithfulness`: median over lesions, by method, infill and direction.

Where there are too few lesions for a median, there is a thin curve of each.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxsal.experiments.faithfulness_curves import ALL, DIRECTIONS, PERCENT, heights_of
from jaxsal.experiments.faithfulness_ranking import BLIND
from jaxsal.experiments.statistics import FEWEST_IN_GROUP
from jaxsal.figures.charts import legend, new_figure, style
from jaxsal.figures.palette import CHANNELS, INK, LINE
from jaxsal.tables import Row
from jaxsal.wording import counted

_BLIND = {"random": ("#8a94a3", ":"), "distance": (INK, "--")}
_LINES_TO_OVERLOOK = 5  # more names would cover the curves
_BETTER = {"deletion": "lower is better", "insertion": "higher is better"}


def drawn(rows: Sequence[Row]) -> list[Row]:
    """Those rows of the table whose curves are in the figure."""
    return [row for row in rows if row["channel"] == ALL and row["auc"] is not None]


def draw(rows: Sequence[Row], methods: Sequence[str], infills: Sequence[str]) -> Figure:
    """Draws normalised mean logits by the part of the voxels, all channels together.

    Args:
        rows: of the table.
        methods: all that rank.
        infills: in their order.
    """
    wanted = drawn(rows)
    lesions = len({(row["scan"], row["label"]) for row in wanted})
    title = f"Logits as voxels are hidden or shown, {counted(lesions, 'lesion')}"
    figure = new_figure(3.9 * len(infills) + 1.2, 7.2, title)
    panels = figure.subplots(len(DIRECTIONS), len(infills), squeeze=False)
    for direction, line in zip(DIRECTIONS, panels, strict=True):
        for infill, axes in zip(infills, line, strict=True):
            own = [
                row for row in wanted if (row["direction"], row["infill"]) == (direction, infill)
            ]
            _draw(axes, own, methods)
            n = len({(row["scan"], row["label"]) for row in own})
            enough = n >= FEWEST_IN_GROUP
            done = "hidden" if direction == "deletion" else "shown"
            style(
                axes,
                f"{direction}, infill {infill} (n = {n}; {_BETTER[direction]})",
                f"part of the voxels within 20 mm {done}, %",
                f"mean logit, normalised; {'median of lesions' if enough else 'each lesion'}",
            )
    if not wanted:
        return figure  # without curves there is nothing to name
    if len(methods) > _LINES_TO_OVERLOOK:  # beside them
        legend(panels[0][-1], loc="upper left", bbox_to_anchor=(1, 1))
    else:
        legend(panels[0][-1], loc="best")
    return figure


def _draw(axes: Axes, rows: Sequence[Row], methods: Sequence[str]) -> None:
    looks = cycle((colour, line) for line in ("-", "-.", (0, (1, 1))) for colour in CHANNELS)
    for method in methods:
        colour, line = _BLIND[method] if method in BLIND else next(looks)
        own = [heights_of(row) for row in rows if row["method"] == method]
        enough = len(own) >= FEWEST_IN_GROUP
        for number, curve in enumerate([np.median(own, axis=0)] if enough else own):
            axes.plot(
                range(len(PERCENT)),
                curve,
                color=colour,
                label="" if number else method,
                linestyle=line,
                linewidth=1.8 if enough else 0.8,
            )
    axes.set_xticks(range(len(PERCENT)), [f"{percent:g}" for percent in PERCENT])
    axes.axhline(0, color=LINE, linewidth=0.9)
    axes.axhline(1, color=LINE, linewidth=0.9)
