"""Several domains in one figure: a row each, the image and the maps in the axial plane.

Axis letters: X, Y, Z space, C channels.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from jaxsal.figures.canvas import Canvas
from jaxsal.figures.palette import FAINT, UNITS, Colours, colours_to
from jaxsal.figures.scene import Array, Scene, make_scene
from jaxsal.figures.slices import (
    draw_image,
    draw_map,
    draw_outlines,
    draw_ruler,
    frame,
    largest,
    peaks,
    show,
    write,
)
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
    units: str = UNITS,
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
    colours = colours_to(max(largest(row.saliency) for row in rows))
    columns = len(channels) + (1 if rows[0].probability is None else 2)
    width = _LEFT + columns * (_PANEL + _GAP) + _RIGHT
    canvas = Canvas(width, _TOP + len(rows) * (_PANEL + _TITLE) + _BOTTOM)
    name, _, rest = title.partition("\n")
    canvas.write(_LEFT, 0.28, name, size=12, weight="bold")
    canvas.write(_LEFT, 0.48, rest, size=8, color=FAINT)
    for number, (row, scene) in enumerate(zip(rows, scenes, strict=True), start=1):
        _draw_row(canvas, number, row, scene, channels, colours, half_mm)
    height = canvas.height - _TOP - _BOTTOM - _TITLE
    place = width - _RIGHT + 0.08, _BOTTOM, 0.13, height
    canvas.colour_bar(place, colours, units, size=8.5, pad=4)
    return canvas.figure


def _scene(row: PanelRow) -> Scene:
    labels = row.omega.astype(np.int32)
    if row.others is not None:
        labels[row.others & ~row.omega] = 2
    extra = row.image
    if row.probability is not None:  # as one more channel it is turned along
        extra = np.concatenate([extra, row.probability[..., None]], axis=-1)
    return make_scene(extra, labels, 1, row.saliency, row.origin, row.grid)


def _draw_row(
    canvas: Canvas,
    number: int,
    row: PanelRow,
    scene: Scene,
    channels: Sequence[str],
    colours: Colours,
    half: float,
) -> None:
    bottom = canvas.height - _TOP - number * (_PANEL + _TITLE)
    canvas.write(_LEFT, canvas.height - bottom - _PANEL - 0.08, row.title, size=9)
    lefts = itertools.count(_LEFT, _PANEL + _GAP)

    def panel(heading: str) -> Axes:
        axes = canvas.panel(next(lefts), bottom, _PANEL, _PANEL)
        write(axes, 0.03, 0.965, heading, size=7.5, va="top")
        frame(axes, _AXIAL, scene.focus * scene.spacing, half)
        return axes

    axes = panel(channels[0])
    draw_image(axes, scene, _AXIAL, 0)
    draw_outlines(axes, scene, _AXIAL)
    draw_ruler(axes, half)
    if row.probability is not None:
        axes = panel("probability")
        plane = scene.plane(scene.image[..., -1], _AXIAL)
        show(axes, scene, _AXIAL, plane, Normalize(0, 1), "magma")
        draw_outlines(axes, scene, _AXIAL)
    for c, name in enumerate(channels):
        axes = panel(f"saliency, {name}")
        draw_map(axes, scene, _AXIAL, c, colours)
        write(axes, 0.97, 0.035, peaks(scene.saliency[..., c]), size=7.5, ha="right")
