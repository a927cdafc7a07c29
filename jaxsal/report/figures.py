"""One picture per saliency map: slices through the lesion, its contour, the map per channel.

Everything is brought to RAS order before drawing, so the same anatomy gives the same picture
however the scan is stored. Slices are shown the radiological way: the patient's right on the left
of the picture, anterior on the left of sagittal slices. Axis letters: X, Y, Z space, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import matplotlib
import nibabel as nib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import Colormap, LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

from jaxsal.files import whole_file
from jaxsal.grid import Grid
from jaxsal.report.scene import Array, Scene, bounds, make_scene

Scale = Literal["diverging", "sequential"]

DPI = 150
PANEL, GAP = 1.92, 0.06  # inches
LEFT, RIGHT, TOP, BOTTOM = 0.42, 1.12, 1.02, 0.16  # inches around the panels
PAPER, INK, FAINT, OMEGA, FRAME = "#0d1015", "#eceff4", "#98a2b3", "#ffffff", "#ffb000"
COLD = ("#2f6fd0", "#3f9be8", "#86cdf6", "#dff3ff")  # from weak to strong
HOT = ("#c8322b", "#ee6a38", "#fbb152", "#fff1c2")
PLANES = (("axial", 2), ("coronal", 1), ("sagittal", 0))  # the axis a plane is cut across
SIDES = {2: ("R", "L", "A"), 1: ("R", "L", "S"), 0: ("A", "P", "S")}  # left, right, top


class _Colours(NamedTuple):
    """The range of values that all channels share, and its colours."""

    norm: Normalize
    colour_map: Colormap


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
        limit: largest magnitude of the colour range; None for the map's largest on the slices.

    Returns:
        A figure on an Agg canvas; no global state of matplotlib is used or changed.

    Raises:
        InputError: the label map does not contain the label, or no lesion at all for None.
    """
    shared = saliency.shape[3] < len(channels)
    saliency = np.broadcast_to(saliency, (*saliency.shape[:3], len(channels)))
    scene = make_scene(image, labels, label, saliency, origin, grid)
    maps = [[scene.map_plane(axis, c) for _, axis in PLANES] for c in range(len(channels))]
    limit = limit or max(float(np.abs(plane).max()) for row in maps for plane in row) or 1.0
    low = -limit if scale == "diverging" else 0.0
    colours = _Colours(Normalize(low, limit), _colour_map(scale))
    figure = _empty_figure(len(channels))
    _write_headings(figure, scene, title, shared)
    for row, (name, planes) in enumerate(zip(channels, maps, strict=True)):
        axial = _draw_row(figure, scene, row, name, planes, colours)
        if row == 0 or not shared:
            _write(axial, 0.97, 0.035, _peaks(scene.saliency[..., row]), size=7.5, ha="right")
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
        figure.savefig(
            file,
            format="png",
            dpi=DPI,
            facecolor=PAPER,
            bbox_inches=None,
            metadata={"Software": "jaxsal"},  # the default names matplotlib's version
            pil_kwargs={"compress_level": 1},  # a twentieth larger, in 60 % of the time
        )


def _colour_map(scale: Scale) -> Colormap:
    """Colours that brighten with magnitude and fade out towards zero, for a dark picture."""
    weak_to_strong = np.array([matplotlib.colors.to_rgba(colour) for colour in HOT])
    if scale == "diverging":
        cold = np.array([matplotlib.colors.to_rgba(colour) for colour in COLD])
        weak_to_strong = np.concatenate([cold[::-1], weak_to_strong])
    smooth = LinearSegmentedColormap.from_list("", weak_to_strong)
    place = np.linspace(-1 if scale == "diverging" else 0, 1, 511)
    table = smooth(np.linspace(0, 1, 511))
    table[:, 3] = np.clip(np.abs(place) / 0.15, 0, 1)  # opaque from 15 % of the range on
    return matplotlib.colors.ListedColormap(table)


def _empty_figure(rows: int) -> Figure:
    width = LEFT + 5 * PANEL + 4 * GAP + RIGHT
    height = TOP + rows * (PANEL + GAP) - GAP + BOTTOM
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor=PAPER)
    FigureCanvasAgg(figure)
    return figure


def _write(axes: Axes, x: float, y: float, text: str, **style: Any) -> None:
    """Write into a panel, in fractions of it, legibly on any image."""
    style = {"color": INK, "size": 8, **style}
    axes.text(
        x,
        y,
        text,
        transform=axes.transAxes,
        family="DejaVu Sans",
        parse_math=False,  # a dollar sign in a file's name is no formula
        path_effects=[withStroke(linewidth=1.6, foreground="#000000b0")],
        **style,
    )


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


def _write_headings(figure: Figure, scene: Scene, title: str, shared: bool) -> None:
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
    colours: _Colours,
) -> Axes:
    """Draw one channel: the whole axial slice, the image around the lesion, the map thrice.

    Returns:
        The panel of the axial map.
    """
    window = _grey_window(scene.plane(scene.image[..., row], 2))
    dimmed = window[0], window[0] + 1.7 * (window[1] - window[0])  # for colours to stand out
    axes = _panel(figure, row, 0, f"{name}: whole slice")
    _draw_whole_slice(axes, scene, row, window)
    _write(axes, -0.1, 0.5, name, size=11, weight="bold", rotation=90, va="center", ha="center")
    axes = _panel(figure, row, 1, f"{name}: image")
    _draw_image(axes, scene, 2, row, window)
    _draw_outlines(axes, scene, 2)
    _frame(axes, 2, scene.centre, scene.half)
    _draw_ruler(axes, scene.half)
    panels = []
    for column, ((plane, axis), values) in enumerate(zip(PLANES, maps, strict=True), start=2):
        axes = _panel(figure, row, column, f"{name}: {plane}")
        panels.append(axes)
        _draw_image(axes, scene, axis, row, dimmed)
        _show(axes, scene, axis, values, *colours)
        _draw_outlines(axes, scene, axis)
        _frame(axes, axis, scene.centre, scene.half)
    return panels[0]


def _peaks(saliency: Array) -> str:
    """State the map's extremes, wherever in the volume they are."""
    low, high = min(float(saliency.min()), 0.0), max(float(saliency.max()), 0.0)
    text = f"min {low:.3g} · max {high:.3g}" if low < 0 else f"max {high:.3g}"
    return text.replace("-", "−")


def _grey_window(plane: Array) -> tuple[float, float]:
    """Black and white points of a channel, robust to a few extreme voxels."""
    inside = plane[plane != 0]
    low, high = np.percentile(inside, (1, 99.7)) if inside.size else (0.0, 1.0)
    return float(low), max(float(high), float(low) + 1e-6)


def _show(
    axes: Axes, scene: Scene, axis: int, plane: Array, norm: Normalize, colour_map: Colormap | str
) -> None:
    """Show a plane in mm, one square or rectangle per voxel: nothing is interpolated."""
    across, up = np.delete(scene.spacing, axis)
    wide, high = plane.shape
    axes.imshow(
        plane.T,
        cmap=colour_map,
        norm=norm,
        extent=(-across / 2, (wide - 0.5) * across, -up / 2, (high - 0.5) * up),
        origin="lower",
        interpolation="nearest",
        aspect="auto",
    )


def _draw_image(
    axes: Axes, scene: Scene, axis: int, channel: int, window: tuple[float, float]
) -> None:
    """Draw the channel in greys; a z-scored image has zeros outside the head, shown black."""
    plane = scene.plane(scene.image[..., channel], axis)
    greys = Normalize(*window, clip=True)
    _show(axes, scene, axis, np.where(plane == 0, window[0], plane), greys, "gray")


def _frame(axes: Axes, axis: int, centre: Array, half: float) -> None:
    """Show a square of mm around a centre, mirrored to the radiological view, sides named."""
    x, y = np.delete(centre, axis)
    axes.set_xlim(x + half, x - half)
    axes.set_ylim(y - half, y + half)
    left, right, top = SIDES[axis]
    _write(axes, 0.025, 0.5, left, size=7, ha="left", va="center")
    _write(axes, 0.975, 0.5, right, size=7, ha="right", va="center")
    _write(axes, 0.5, 0.975, top, size=7, ha="center", va="top")


def _draw_whole_slice(axes: Axes, scene: Scene, channel: int, window: tuple[float, float]) -> None:
    """Draw the axial slice at full width, and where the other panels look."""
    _draw_image(axes, scene, 2, channel, window)
    low, high = bounds((scene.plane(scene.image, 2) != 0).any(-1) | scene.plane(scene.omega, 2))
    middle = np.append((low + high) / 2, 0) * scene.spacing
    _frame(axes, 2, middle, 1.08 * float(((high - low + 1) * scene.spacing[:2]).max()) / 2)
    (x, y), side = scene.centre[:2] - scene.half, 2 * scene.half
    axes.add_patch(Rectangle((x, y), side, side, fill=False, edgecolor=FRAME, linewidth=1.2))


def _draw_outlines(axes: Axes, scene: Scene, axis: int) -> None:
    """Outline the lesion domain, and fainter the other lesions, along the voxels' edges."""
    omega = scene.plane(scene.omega, axis)
    others = scene.plane(scene.lesions, axis) & ~omega
    spacing = np.delete(scene.spacing, axis)
    thin = 1.0 if scene.half < 45 else 0.6  # lines must not hide small voxels
    for name, mask, colour, width in (
        ("others", others, FAINT, 0.65 * thin),
        ("halo", omega, PAPER, 2.2 * thin),
        ("omega", omega, OMEGA, 1.1 * thin),
    ):
        edges = _edges(mask, spacing)
        lines = LineCollection(list(edges), colors=colour, linewidths=width, label=name)
        lines.set_capstyle("projecting")
        axes.add_collection(lines, autolim=False)


def _edges(mask: Array, spacing: Array) -> Array:
    """Segments (N, 2, 2) in mm between the voxels inside a mask (X, Y) and those outside."""
    padded = np.pad(mask, 1)
    segments = []
    for axis in (0, 1):
        ahead = np.argwhere(np.diff(padded, axis=axis)) - 1  # the edge lies behind this voxel
        start = ahead + np.where(np.arange(2) == axis, 0.5, -0.5)
        segments.append(np.stack([start, start + np.where(np.arange(2) == axis, 0, 1)], axis=1))
    return np.concatenate(segments) * spacing


def _draw_ruler(axes: Axes, half: float) -> None:
    """Draw a length to compare with, about a quarter of the panel."""
    length = 10 if half < 45 else 20
    share = length / (2 * half)
    line = [0.04, 0.04 + share], [0.045, 0.045]
    halo = [withStroke(linewidth=3, foreground="#000000b0")]
    axes.plot(*line, color=INK, linewidth=1.6, transform=axes.transAxes, path_effects=halo)
    _write(axes, 0.04, 0.065, f"{length} mm", size=7)


def _draw_colour_bar(figure: Figure, colours: _Colours, units: str) -> None:
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
