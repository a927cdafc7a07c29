"""Several domains in one figure: a row each, the image and the maps in the axial plane.

Axis letters: X, Y, Z space, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from jaxsal.figures.drawing import (
    FAINT,
    INK,
    PAPER,
    Colours,
    colour_map,
    draw_image,
    draw_outlines,
    draw_ruler,
    frame,
    grey_window,
    largest,
    peaks,
    show,
    write,
)
from jaxsal.figures.scene import Array, Scene, make_scene
from jaxsal.grid import Grid

_AXIAL = 2
_PANEL, _GAP, _TITLE = 2.0, 0.06, 0.30  # inches
_LEFT, _RIGHT, _TOP, _BOTTOM = 0.12, 0.95, 0.62, 0.12


@dataclass(frozen=True, eq=False)
class PanelRow:
    """A domain to be shown.

    Attributes:
        title: written above the row.
        image: (X, Y, Z, C), any intensity scale; exact zeros are drawn black.
        omega: (X, Y, Z) bool, the domain, not empty.
        saliency: (x, y, z, C), the map's crop; 0 elsewhere.
        origin: (3,) image voxel at the crop's first voxel.
        grid: of the image.
        probability: (X, Y, Z) of lesion, to be shown, too; None: it is not.
        others: (X, Y, Z) bool, to be outlined more faintly; None: nothing is.
    """

    title: str
    image: Array
    omega: Array
    saliency: Array
    origin: Sequence[int] | Array
    grid: Grid
    probability: Array | None = field(default=None)
    others: Array | None = field(default=None)


def panel_figure(
    rows: Sequence[PanelRow],
    channels: Sequence[str],
    title: str,
    half_mm: float = 24.0,
    units: str = "logit per standard deviation",
) -> Figure:
    """Draws a row per domain: the image, its lesion probability if given, the map per channel.

    All maps share one range of colours, to the largest magnitude of all of them, on whichever
    slice that is; weak values fade into the image. The white line is the domain.

    Args:
        rows: the domains, at least one; all with a probability or none.
        channels: C names.
        title: heading of the figure.
        half_mm: half the width of what is shown.
        units: of the maps.

    Returns:
        A figure on an Agg canvas; no global state of matplotlib is used or changed.

    Raises:
        InputError: a domain is empty.
    """
    scenes = [_scene(row) for row in rows]
    limit = max(largest(row.saliency) for row in rows) or 1.0
    colours = Colours(Normalize(-limit, limit), colour_map("diverging"))
    shown = rows[0].probability is not None
    figure = _empty(len(rows), 1 + shown + len(channels))
    _write_title(figure, title)
    for place, (row, scene) in enumerate(zip(rows, scenes, strict=True)):
        _draw_row(figure, place, row, scene, channels, colours, half_mm)
    _draw_colour_bar(figure, colours, units)
    return figure


def _scene(row: PanelRow) -> Scene:
    labels = row.omega.astype(np.int32)
    if row.others is not None:
        labels[row.others & ~row.omega] = 2
    extra = row.image
    if row.probability is not None:  # as one more channel it is turned along
        extra = np.concatenate([extra, row.probability[..., None]], axis=-1)
    return make_scene(extra, labels, 1, row.saliency, row.origin, row.grid)


def _empty(rows: int, columns: int) -> Figure:
    width = _LEFT + columns * (_PANEL + _GAP) + _RIGHT
    height = _TOP + rows * (_PANEL + _TITLE) + _BOTTOM
    figure = Figure(figsize=(width, height), dpi=150, facecolor=PAPER)
    FigureCanvasAgg(figure)
    return figure


def _write_title(figure: Figure, title: str) -> None:
    across, down = figure.get_size_inches()
    name, _, rest = title.partition("\n")
    style: dict[str, Any] = {"family": "DejaVu Sans", "parse_math": False}
    figure.text(_LEFT / across, 1 - 0.28 / down, name, size=12, weight="bold", color=INK, **style)
    figure.text(_LEFT / across, 1 - 0.48 / down, rest, size=8, color=FAINT, **style)


def _draw_row(
    figure: Figure,
    place: int,
    row: PanelRow,
    scene: Scene,
    channels: Sequence[str],
    colours: Colours,
    half: float,
) -> None:
    across, down = figure.get_size_inches()
    bottom = down - _TOP - (place + 1) * (_PANEL + _TITLE)
    figure.text(
        _LEFT / across,
        (bottom + _PANEL + 0.08) / down,
        row.title,
        size=9,
        color=INK,
        family="DejaVu Sans",
        parse_math=False,
    )
    column = 0

    def panel(heading: str) -> Axes:
        nonlocal column
        left = _LEFT + column * (_PANEL + _GAP)
        column += 1
        axes = figure.add_axes(
            (left / across, bottom / down, _PANEL / across, _PANEL / down), facecolor="black"
        )
        axes.xaxis.set_visible(False)
        axes.yaxis.set_visible(False)
        axes.spines[:].set_visible(False)
        write(axes, 0.03, 0.965, heading, size=7.5, va="top")
        return axes

    grey = grey_window(scene.plane(scene.image[..., 0], _AXIAL))
    axes = panel(channels[0])
    draw_image(axes, scene, _AXIAL, 0, grey)
    _finish(axes, scene, half)
    draw_ruler(axes, half)
    if row.probability is not None:
        axes = panel("probability")
        show(
            axes, scene, _AXIAL, scene.plane(scene.image[..., -1], _AXIAL), Normalize(0, 1), "magma"
        )
        _finish(axes, scene, half)
    for c, name in enumerate(channels):
        axes = panel(f"saliency, {name}")
        window = grey_window(scene.plane(scene.image[..., c], _AXIAL))
        dimmed = window[0], window[0] + 1.7 * (window[1] - window[0])
        draw_image(axes, scene, _AXIAL, c, dimmed)
        show(axes, scene, _AXIAL, scene.map_plane(_AXIAL, c), *colours)
        _finish(axes, scene, half)
        write(axes, 0.97, 0.035, peaks(scene.saliency[..., c]), size=7.5, ha="right")


def _finish(axes: Axes, scene: Scene, half: float) -> None:
    draw_outlines(axes, scene, _AXIAL)
    frame(axes, _AXIAL, scene.focus * scene.spacing, half)


def _draw_colour_bar(figure: Figure, colours: Colours, units: str) -> None:
    across, down = figure.get_size_inches()
    left = across - _RIGHT + 0.08
    axes = figure.add_axes(
        (left / across, _BOTTOM / down, 0.13 / across, (down - _TOP - _BOTTOM - _TITLE) / down),
        facecolor="#5a5f68",
    )
    bar = figure.colorbar(ScalarMappable(*colours), cax=axes, ticks=MaxNLocator(6, symmetric=True))
    bar.outline.set_visible(False)
    axes.set_facecolor("#5a5f68")
    axes.tick_params(colors=INK, labelsize=8, width=0.6, length=3)
    axes.set_ylabel(units, color=INK, size=8.5, family="DejaVu Sans", labelpad=4, parse_math=False)
