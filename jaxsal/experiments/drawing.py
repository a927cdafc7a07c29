"""How the experiments' figures look: white paper, dark panels of maps, colours with meanings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from jaxsal.figures.distributions import COLOURS, INK, LINE, OTHER
from jaxsal.figures.drawing import (
    COLD,
    HOT,
    Colours,
    colour_map,
    draw_image,
    draw_outlines,
    draw_ruler,
    frame,
    grey_window,
    show,
)
from jaxsal.figures.scene import Scene

POSITIVE, NEGATIVE = HOT[0], COLD[0]  # as maps are drawn
CHANNELS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#7f7f7f")
UNITS = "logit per standard deviation"
_WARNING = "#d98e04"
_BEHIND = "#5a5f68"  # of a colour bar whose weak colours are transparent


def new_figure(width: float, height: float, title: str) -> Figure:
    """A white figure of some inches, without any global state of matplotlib."""
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    figure.suptitle(title, size=12, weight="bold", color=INK, parse_math=False)
    return figure


def add_footnote(figure: Figure, text: str) -> None:
    """Writes what must not be overlooked below a figure; in a fixed layout, beside its subtitle."""
    style: dict[str, Any] = {"size": 9, "weight": "bold", "color": _WARNING, "parse_math": False}
    if figure.get_layout_engine() is not None:
        figure.supxlabel(text, **style)
    else:
        figure.text(0.995, 1 - 0.48 / figure.get_figheight(), text, ha="right", **style)


def colour_of(kind: str) -> str:
    """The colour of a kind of lesion."""
    return COLOURS.get(kind, OTHER)


def style(axes: Axes, title: str, across: str = "", up: str = "") -> None:
    """Titles and a quiet grid, for axes of figures."""
    text: dict[str, Any] = {"color": INK, "parse_math": False}
    axes.set_title(title, size=10, loc="left", **text)
    axes.set_xlabel(across, size=9, **text)
    axes.set_ylabel(up, size=9, **text)
    axes.tick_params(labelsize=8, labelcolor=INK, color=LINE)
    axes.grid(color=LINE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[:].set_visible(False)


def plain_log(axis: Axis) -> None:
    """Ticks of a logarithmic axis as plain numbers: 0.1, 0.2, 0.5, 1."""
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def legend(axes: Axes, **place: Any) -> None:
    """What the colours mean."""
    axes.legend(fontsize=8, frameon=False, labelcolor=INK, **place)


def side_by_side(figure: Figure, widths: Sequence[float]) -> list[SubFigure]:
    """Parts of a figure, from left to right, with colour bars of their own."""
    parts = figure.subfigures(1, len(widths), squeeze=False, width_ratios=widths)
    return [*parts[0]]


def even_range(limit: float) -> Colours:
    """Colours from minus a limit to plus the same; a limit of zero is of a map of zeros."""
    limit = limit or 1.0
    return Colours(Normalize(-limit, limit), colour_map("diverging"))


def map_panel(
    axes: Axes,
    scene: Scene,
    channel: int,
    colours: Colours,
    title: str,
    axis: int = 2,
) -> None:
    """A slice of a map over the image, at the scene's focus.

    Args:
        axes: what to draw in.
        scene: what to show.
        channel: whose map.
        colours: from `even_range`.
        title: above it.
        axis: across which to cut; 2 is axial.
    """
    axes.set_facecolor("black")
    low, high = grey_window(scene.plane(scene.image[..., channel], 2))
    draw_image(axes, scene, axis, channel, (low, low + 1.7 * (high - low)))  # colours stand out
    show(axes, scene, axis, scene.map_plane(axis, channel), *colours)
    draw_outlines(axes, scene, axis)
    frame(axes, axis, scene.centre, scene.half)
    draw_ruler(axes, scene.half)
    axes.set_aspect("equal")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    axes.set_title(title, size=9, loc="left", color=INK, parse_math=False)


def colour_bar(figure: SubFigure, panels: Sequence[Axes], colours: Colours, text: str) -> None:
    """The colours that panels share, beside them."""
    bar = figure.colorbar(
        ScalarMappable(*colours), ax=list(panels), ticks=MaxNLocator(5, symmetric=True), pad=0.01
    )
    bar.ax.set_facecolor(_BEHIND)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=8, labelcolor=INK, color=LINE)
    bar.ax.set_ylabel(text, size=8, color=INK, parse_math=False)
