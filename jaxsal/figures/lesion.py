"""One picture per saliency map: slices through the lesion, its contour, the map per channel.

Everything is brought to RAS order before drawing, so the same anatomy gives the same picture
however the scan is stored. Slices are shown the radiological way: the patient's right on the left
of the picture, anterior on the left of sagittal slices. Axis letters: X, Y, Z space, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence

import nibabel as nib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from jaxsal.figures.canvas import Canvas
from jaxsal.figures.palette import FAINT, FRAME, UNITS, Colours, colours_to
from jaxsal.figures.scene import PLANES, Array, Scene, bounds, make_scene
from jaxsal.figures.slices import (
    draw_image,
    draw_map,
    draw_outlines,
    draw_ruler,
    frame,
    largest,
    peaks,
    write,
)
from jaxsal.grid import Grid
from jaxsal.types import Scale

PANEL, GAP = 1.92, 0.06  # inches
LEFT, RIGHT, TOP, BOTTOM = 0.42, 1.12, 1.02, 0.16  # inches around the panels


def lesion_figure(
    image: Array,
    labels: Array,
    label: int | None,
    saliency: Array,
    origin: Sequence[int] | Array,
    grid: Grid,
    channels: Sequence[str],
    title: str,
    units: str = UNITS,
    scale: Scale = "diverging",
    limit: float | None = None,
    note: str = "",
) -> Figure:
    """Draw one lesion's saliency: a row per channel, the image and the map in three planes.

    The slices meet in the axial plane where the lesion is largest. All channels share one colour
    range; weak values fade into the image, as they do on the colour bar. The white line is the
    lesion domain, grey lines are the other lesions.

    Args:
        image: (X, Y, Z, C), any intensity scale; exact zeros are drawn black.
        labels: (X, Y, Z) integers, 0 background.
        label: the lesion to show; None for a class-level map: all lesions together.
        saliency: (x, y, z, C), the map's crop, inside the image; it is 0 elsewhere. A map that is
            not per channel, (x, y, z, 1), is drawn over each of them.
        origin: (3,) image voxel at the crop's first voxel.
        grid: the image's grid; its affine decides orientation and voxel size.
        channels: C names.
        title: heading of the figure.
        units: of the map, written along the colour bar.
        scale: "diverging" centres the colours at zero; "sequential" starts them at zero.
        limit: largest magnitude of the colour range; None for the map's largest, on whichever
            slice that is, so that the colour bar reaches the extremes that are written.
        note: what must not be overlooked, written in the heading.

    Returns:
        A figure on an Agg canvas; no global state of matplotlib is used or changed.

    Raises:
        InputError: the label map does not contain the label, or no lesion at all for None.
    """
    shared = saliency.shape[3] < len(channels)
    saliency = np.broadcast_to(saliency, (*saliency.shape[:3], len(channels)))
    scene = make_scene(image, labels, label, saliency, origin, grid)
    colours = colours_to(limit or largest(saliency), scale)
    height = TOP + len(channels) * (PANEL + GAP) - GAP + BOTTOM
    canvas = Canvas(LEFT + 5 * PANEL + 4 * GAP + RIGHT, height)
    _write_headings(canvas, scene, title, shared, note)
    for row, name in enumerate(channels):
        axial = _draw_row(canvas, scene, row, name, colours)
        if row == 0 or not shared:
            write(axial, 0.97, 0.035, peaks(scene.saliency[..., row]), size=7.5, ha="right")
    left, bottom = _corner(canvas, len(channels) - 1, 5)
    canvas.colour_bar((left + 0.06, bottom, 0.14, height - TOP - BOTTOM), colours, units)
    return canvas.figure


def _corner(canvas: Canvas, row: int, column: int) -> tuple[float, float]:
    return (
        LEFT + column * (PANEL + GAP),
        canvas.height - TOP - PANEL - row * (PANEL + GAP),
    )


def _write_headings(canvas: Canvas, scene: Scene, title: str, shared: bool, note: str) -> None:
    """Write the title, where the slices meet, and the letters nobody may have to guess."""
    x, y, z = nib.affines.apply_affine(scene.affine, scene.focus).round(6) + 0.0
    place = (
        f"slices through x = {x:.1f}, y = {y:.1f}, z = {z:.1f} mm (RAS), radiological view: "
        "the patient's right is on the left"
    ).replace("-", "−")
    if shared:
        place += "; one map of all channels, over the image of each"
    canvas.write(LEFT, 0.30, title, size=13, weight="bold")
    canvas.write(LEFT, 0.55, place, size=8.5, color=FAINT)
    canvas.write(LEFT, 0.73, note, size=8.5, weight="bold", color=FRAME)
    headings = ("whole slice", "image", *(f"saliency, {name}" for name, _ in PLANES))
    for column, heading in enumerate(headings):
        canvas.write(LEFT + column * (PANEL + GAP), TOP - 0.08, heading, size=9)


def _draw_row(canvas: Canvas, scene: Scene, row: int, name: str, colours: Colours) -> Axes:
    """Draw one channel: the whole axial slice, the image around the lesion, the map thrice.

    Returns:
        The panel of the axial map.
    """

    def panel(column: int, what: str) -> Axes:
        return canvas.panel(*_corner(canvas, row, column), PANEL, PANEL, f"{name}: {what}")

    axes = panel(0, "whole slice")
    _draw_whole_slice(axes, scene, row)
    write(axes, -0.1, 0.5, name, size=11, weight="bold", rotation=90, va="center", ha="center")
    axes = panel(1, "image")
    draw_image(axes, scene, 2, row)
    draw_outlines(axes, scene, 2)
    frame(axes, 2, scene.centre, scene.half)
    draw_ruler(axes, scene.half)
    panels = [panel(column, what) for column, (what, _) in enumerate(PLANES, start=2)]
    for axes, (_, axis) in zip(panels, PLANES, strict=True):
        draw_map(axes, scene, axis, row, colours)
        frame(axes, axis, scene.centre, scene.half)
    return panels[0]


def _draw_whole_slice(axes: Axes, scene: Scene, channel: int) -> None:
    """Draw the axial slice at full width, and where the other panels look."""
    draw_image(axes, scene, 2, channel)
    shown = (scene.plane(scene.image, 2) != 0).any(-1) | scene.plane(scene.omega, 2)
    low, high = bounds(shown[..., None])
    middle = (low + high) / 2 * scene.spacing
    frame(axes, 2, middle, 1.08 * float(((high - low + 1) * scene.spacing)[:2].max()) / 2)
    (x, y), side = scene.centre[:2] - scene.half, 2 * scene.half
    axes.add_patch(Rectangle((x, y), side, side, fill=False, edgecolor=FRAME, linewidth=1.2))
