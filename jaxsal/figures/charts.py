"""Charts on white paper, and maps in dark panels beside them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from jaxsal.figures.palette import BEHIND, INK, LINE, WARNING, Colours
from jaxsal.figures.slices import draw_map, draw_ruler, frame

if TYPE_CHECKING:
    from jaxsal.figures.scene import Scene


def new_figure(width: float, height: float, title: str) -> Figure:
    """A white figure of some inches, without any global state of matplotlib."""
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    figure.suptitle(title, size=12, weight="bold", color=INK, parse_math=False)
    return figure


def add_footnote(figure: Figure, text: str) -> None:
    """Writes what must not be overlooked below a figure; in a fixed layout, beside its subtitle."""
    style: dict[str, Any] = {"size": 9, "weight": "bold", "color": WARNING, "parse_math": False}
    if figure.get_layout_engine() is not None:
        figure.supxlabel(text, **style)
    else:
        figure.text(0.995, 1 - 0.48 / figure.get_figheight(), text, ha="right", **style)


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
        colours: of its values.
        title: above it.
        axis: across which to cut; 2 is axial.
    """
    axes.set_facecolor("black")
    draw_map(axes, scene, axis, channel, colours)
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
    bar.ax.set_facecolor(BEHIND)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=8, labelcolor=INK, color=LINE)
    bar.ax.set_ylabel(text, size=8, color=INK, parse_math=False)
