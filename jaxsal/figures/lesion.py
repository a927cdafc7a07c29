"""One picture per saliency map: slices through the lesion, its contour, the map per channel.

Everything is brought to RAS order before drawing, so the same anatomy gives the same picture
however the scan is stored. Slices are shown the radiological way: the patient's right on the left
of the picture, anterior on the left of sagittal slices. Axis letters: X, Y, Z space, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import nibabel as nib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from jaxsal.figures.drawing import (
    FAINT,
    FRAME,
    INK,
    PAPER,
    Colours,
    Scale,
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
from jaxsal.figures.scene import Array, Scene, bounds, make_scene
from jaxsal.grid import Grid
from jaxsal.store.files import whole_file

DPI = 150
PANEL, GAP = 1.92, 0.06  # inches
LEFT, RIGHT, TOP, BOTTOM = 0.42, 1.12, 1.02, 0.16  # inches around the panels
PLANES = (("axial", 2), ("coronal", 1), ("sagittal", 0))  # the axis a plane is cut across


def lesion_figure(
    image: Array,
    labels: Array,
    label: int | None,
    saliency: Array,
    origin: Sequence[int] | Array,
    grid: Grid,
    channels: Sequence[str],
    title: str,
    units: str = "logit per standard deviation",
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
    maps = [[scene.map_plane(axis, c) for _, axis in PLANES] for c in range(len(channels))]
    limit = limit or largest(saliency) or 1.0
    low = -limit if scale == "diverging" else 0.0
    colours = Colours(Normalize(low, limit), colour_map(scale))
    figure = _empty_figure(len(channels))
    _write_headings(figure, scene, title, shared, note)
    for row, (name, planes) in enumerate(zip(channels, maps, strict=True)):
        axial = _draw_row(figure, scene, row, name, planes, colours)
        if row == 0 or not shared:
            write(axial, 0.97, 0.035, peaks(scene.saliency[..., row]), size=7.5, ha="right")
    _draw_colour_bar(figure, colours, units)
    return figure


def save_figure(figure: Figure, path: str | Path) -> None:
    """Write a figure as PNG, whole or not at all; equal figures give equal files.

    Args:
        figure: what `lesion_figure` returns.
        path: the PNG to write; replaced if it exists.

    Raises:
        InputError: if the file cannot be written.
    """
    with whole_file(path) as file:
        write_figure(figure, file)


def write_figure(figure: Figure, file: IO[bytes]) -> None:
    """Write a figure as PNG into an open file."""
    figure.savefig(
        file,
        format="png",
        dpi=DPI,
        facecolor=PAPER,
        bbox_inches=None,
        metadata={"Software": "jaxsal"},  # the default names matplotlib's version
        pil_kwargs={"compress_level": 1},  # a twentieth larger, in 60 % of the time
    )


def _empty_figure(rows: int) -> Figure:
    width = LEFT + 5 * PANEL + 4 * GAP + RIGHT
    height = TOP + rows * (PANEL + GAP) - GAP + BOTTOM
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor=PAPER)
    FigureCanvasAgg(figure)
    return figure


def _panel(figure: Figure, row: int, column: float, name: str, width: float = PANEL) -> Axes:
    """Add an empty black panel; positions are fixed, for layout engines are slow."""
    across, down = figure.get_size_inches()
    left = LEFT + column * (PANEL + GAP)
    bottom = down - TOP - PANEL - row * (PANEL + GAP)
    axes = figure.add_axes(
        (left / across, bottom / down, width / across, PANEL / down), facecolor="black", label=name
    )
    axes.xaxis.set_visible(False)  # sooner drawn than without ticks
    axes.yaxis.set_visible(False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return axes


def _write_headings(figure: Figure, scene: Scene, title: str, shared: bool, note: str) -> None:
    """Write the title, where the slices meet, and the letters nobody may have to guess."""
    across, down = figure.get_size_inches()
    x, y, z = nib.affines.apply_affine(scene.affine, scene.focus).round(6) + 0.0
    place = (
        f"slices through x = {x:.1f}, y = {y:.1f}, z = {z:.1f} mm (RAS), radiological view: "
        "the patient's right is on the left"
    ).replace("-", "−")
    if shared:
        place += "; one map of all channels, over the image of each"
    style: dict[str, Any] = {"family": "DejaVu Sans", "parse_math": False}
    figure.text(LEFT / across, 1 - 0.30 / down, title, size=13, weight="bold", color=INK, **style)
    figure.text(LEFT / across, 1 - 0.55 / down, place, size=8.5, color=FAINT, **style)
    bold: dict[str, Any] = {"size": 8.5, "weight": "bold", "color": FRAME}
    figure.text(LEFT / across, 1 - 0.73 / down, note, **bold, **style)
    headings = ("whole slice", "image", *(f"saliency, {name}" for name, _ in PLANES))
    for column, heading in enumerate(headings):
        left = (LEFT + column * (PANEL + GAP)) / across
        figure.text(left, 1 - (TOP - 0.08) / down, heading, size=9, color=INK, **style)


def _draw_row(
    figure: Figure,
    scene: Scene,
    row: int,
    name: str,
    maps: list[Array],
    colours: Colours,
) -> Axes:
    """Draw one channel: the whole axial slice, the image around the lesion, the map thrice.

    Returns:
        The panel of the axial map.
    """
    window = grey_window(scene.plane(scene.image[..., row], 2))
    dimmed = window[0], window[0] + 1.7 * (window[1] - window[0])  # for colours to stand out
    axes = _panel(figure, row, 0, f"{name}: whole slice")
    _draw_whole_slice(axes, scene, row, window)
    write(axes, -0.1, 0.5, name, size=11, weight="bold", rotation=90, va="center", ha="center")
    axes = _panel(figure, row, 1, f"{name}: image")
    draw_image(axes, scene, 2, row, window)
    draw_outlines(axes, scene, 2)
    frame(axes, 2, scene.centre, scene.half)
    draw_ruler(axes, scene.half)
    panels = []
    for column, ((plane, axis), values) in enumerate(zip(PLANES, maps, strict=True), start=2):
        axes = _panel(figure, row, column, f"{name}: {plane}")
        panels.append(axes)
        draw_image(axes, scene, axis, row, dimmed)
        show(axes, scene, axis, values, *colours)
        draw_outlines(axes, scene, axis)
        frame(axes, axis, scene.centre, scene.half)
    return panels[0]


def _draw_whole_slice(axes: Axes, scene: Scene, channel: int, window: tuple[float, float]) -> None:
    """Draw the axial slice at full width, and where the other panels look."""
    draw_image(axes, scene, 2, channel, window)
    low, high = bounds((scene.plane(scene.image, 2) != 0).any(-1) | scene.plane(scene.omega, 2))
    middle = np.append((low + high) / 2, 0) * scene.spacing
    frame(axes, 2, middle, 1.08 * float(((high - low + 1) * scene.spacing[:2]).max()) / 2)
    (x, y), side = scene.centre[:2] - scene.half, 2 * scene.half
    axes.add_patch(Rectangle((x, y), side, side, fill=False, edgecolor=FRAME, linewidth=1.2))


def _draw_colour_bar(figure: Figure, colours: Colours, units: str) -> None:
    """Draw the one colour range of all channels, over the grey that weak values fade into."""
    rows = round((figure.get_figheight() - TOP - BOTTOM + GAP) / (PANEL + GAP))
    axes = _panel(figure, rows - 1, 5, "colour bar", width=0.14)
    across, down = figure.get_size_inches()
    left, bottom, width, _ = axes.get_position().bounds
    axes.set_position((left + 0.06 / across, bottom, width, (down - TOP - BOTTOM) / down))
    ticks = MaxNLocator(6, symmetric=bool(colours.norm.vmin))
    bar = figure.colorbar(ScalarMappable(*colours), cax=axes, ticks=ticks)
    axes.yaxis.set_visible(True)
    axes.set_facecolor("#5a5f68")
    bar.outline.set_visible(False)
    axes.tick_params(colors=INK, labelsize=8, width=0.6, length=3)
    axes.yaxis.set_ticks_position("right")
    axes.yaxis.label.set_parse_math(False)
    axes.set_ylabel(units, color=INK, size=9, family="DejaVu Sans", labelpad=6)
