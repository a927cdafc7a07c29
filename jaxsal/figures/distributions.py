"""How a statistic of the maps is distributed over a cohort's lesions, kind by kind.

Violins as in Fig. 11 of Spagnolo et al. 2026, one per kind of lesion.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from numpy.typing import NDArray

from jaxsal.figures.palette import INK, LINE, colour_of, kinds_in_order
from jaxsal.tables import Value
from jaxsal.wording import number

FEWEST_IN_VIOLIN = 5  # values that make a violin; of fewer, a density would be invented
_VARIABLES = {INK: "var(--ink)", LINE: "var(--line)"}


def distribution_svg(rows: Sequence[Mapping[str, Value]], key: str, units: str) -> str:
    """Draw a column's distribution as an SVG element whose colours follow the page's.

    Each violin is scaled to the same width; the line is the median. Below it are the number of its
    values and their median. Missing and infinite values do not count.

    Args:
        rows: one mapping per lesion, with "kind" and the key.
        key: where a row keeps the number.
        units: of the numbers.

    Returns:
        SVG, to be put into the page itself; all text in it is escaped.
    """
    figure = distribution_figure(rows, key, units)
    file = io.StringIO()
    # Texts stay texts, in the page's font; a fixed salt makes equal figures equal files.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": key}):
        metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(file, format="svg", transparent=True, metadata=metadata)
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :]  # without the declaration of a file
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, variable)
    return svg


def distribution_figure(rows: Sequence[Mapping[str, Value]], key: str, units: str) -> Figure:
    """Draw what `distribution_svg` returns; no global state of matplotlib is used or changed."""
    groups = _finite_by_kind(rows, key)
    figure = Figure(figsize=(5.2, 3.3), layout="constrained")
    FigureCanvasSVG(figure)
    draw_distribution(figure.add_subplot(), groups, units)
    return figure


def draw_distribution(axes: Axes, groups: Mapping[str, NDArray[Any]], units: str) -> None:
    """Draw a violin for each kind of lesion, with the number of values and their median.

    Args:
        axes: what to draw in.
        groups: finite values by kind, in the order of drawing.
        units: of the values.
    """
    for place, (kind, values) in enumerate(groups.items()):
        _draw_kind(axes, place, values, colour_of(kind))
    _style(axes, groups)
    axes.set_ylabel(units, size=9, color=INK, parse_math=False)


def _finite_by_kind(rows: Sequence[Mapping[str, Value]], key: str) -> dict[str, NDArray[Any]]:
    values: dict[str, list[Any]] = {}
    for row in rows:
        values.setdefault(str(row["kind"]), []).append(row[key])
    arrays = {kind: np.array(values[kind], np.float64) for kind in kinds_in_order(values)}
    return {kind: array[np.isfinite(array)] for kind, array in arrays.items()}


def _draw_kind(axes: Axes, place: int, values: NDArray[Any], colour: str) -> None:
    if values.size == 0:
        return
    if values.size < FEWEST_IN_VIOLIN:
        axes.plot([place] * values.size, values, "o", color=colour, markersize=5)
    else:
        parts = axes.violinplot(values, [place], widths=0.8, showextrema=False)
        for body in parts["bodies"]:  # type: ignore[attr-defined]
            body.set(facecolor=colour, edgecolor=colour, alpha=0.75)
    axes.hlines(np.median(values), place - 0.15, place + 0.15, color=INK, linewidth=1.8)


def _style(axes: Axes, groups: Mapping[str, NDArray[Any]]) -> None:
    names = [f"{kind}\n{_summary(values)}" for kind, values in groups.items()]
    axes.set_xticks(range(len(names)), names, size=9, color=INK, parse_math=False)
    axes.set_xlim(-0.6, len(names) - 0.4)
    axes.tick_params(axis="y", labelsize=8, labelcolor=INK, color=LINE)
    axes.tick_params(axis="x", length=0)
    axes.grid(axis="y", color=LINE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[:].set_visible(False)


def _summary(values: NDArray[Any]) -> str:
    median = f"\nmedian {number(float(np.median(values)))}" if values.size else ""
    return f"n = {values.size:,}{median}"
