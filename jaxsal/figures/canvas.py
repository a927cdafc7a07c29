"""Dark figures whose parts have fixed places, for layout engines are slow; written as PNG."""

from __future__ import annotations

from pathlib import Path
from typing import IO, Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from jaxsal.figures.palette import BEHIND, LIGHT, PAPER, Colours
from jaxsal.store.files import whole_file

DPI = 150


class Canvas:
    """A dark figure; places are in inches from its lower left corner.

    No global state of matplotlib is used or changed.

    Args:
        width: in inches.
        height: in inches.

    Attributes:
        figure: matplotlib's.
        width: in inches.
        height: in inches.
    """

    def __init__(self, width: float, height: float) -> None:
        self.figure = Figure(figsize=(width, height), dpi=DPI, facecolor=PAPER)
        FigureCanvasAgg(self.figure)
        self.width, self.height = width, height

    def write(self, left: float, below: float, text: str, **style: Any) -> None:
        """Writes a line that stands so far below the figure's upper edge."""
        style = {"family": "DejaVu Sans", "color": LIGHT, "parse_math": False, **style}
        self.figure.text(left / self.width, 1 - below / self.height, text, **style)

    def panel(
        self, left: float, bottom: float, width: float, height: float, name: str = ""
    ) -> Axes:
        """Adds an empty black panel."""
        box = (left / self.width, bottom / self.height, width / self.width, height / self.height)
        axes = self.figure.add_axes(box, facecolor="black", label=name)
        axes.xaxis.set_visible(False)  # sooner drawn than without ticks
        axes.yaxis.set_visible(False)
        axes.spines[:].set_visible(False)
        return axes

    def colour_bar(
        self,
        place: tuple[float, float, float, float],
        colours: Colours,
        units: str,
        size: float = 9,
        pad: float = 6,
    ) -> None:
        """Draws a range of colours, over the grey that weak values fade into.

        Args:
            place: left, bottom, width and height.
            colours: the range.
            units: of the values, written along it.
            size: of that text, in points.
            pad: between that text and the numbers, in points.
        """
        axes = self.panel(*place, "colour bar")
        ticks = MaxNLocator(6, symmetric=bool(colours.norm.vmin))
        bar = self.figure.colorbar(ScalarMappable(*colours), cax=axes, ticks=ticks)
        axes.yaxis.set_visible(True)
        axes.set_facecolor(BEHIND)
        bar.outline.set_visible(False)
        axes.tick_params(colors=LIGHT, labelsize=8, width=0.6, length=3)
        axes.yaxis.set_ticks_position("right")
        axes.set_ylabel(
            units, color=LIGHT, size=size, family="DejaVu Sans", labelpad=pad, parse_math=False
        )


def save_figure(figure: Figure, path: str | Path) -> None:
    """Writes a dark figure as PNG, whole or not at all; equal figures give equal files.

    Args:
        figure: of a `Canvas`.
        path: the PNG to write; replaced if it exists.

    Raises:
        OutputError: if the file cannot be written.
    """
    with whole_file(path) as file:
        write_figure(figure, file)


def write_figure(figure: Figure, file: IO[bytes]) -> None:
    """Writes a dark figure as PNG into an open file."""
    figure.savefig(
        file,
        format="png",
        dpi=DPI,
        facecolor=PAPER,
        bbox_inches=None,
        metadata={"Software": "jaxsal"},  # the default names matplotlib's version
        pil_kwargs={"compress_level": 1},  # a twentieth larger, in 60 % of the time
    )
