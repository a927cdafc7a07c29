"""Slices of scans and maps, drawn into a panel: greys, colours, outlines, rulers, sides."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import Colormap, Normalize
from matplotlib.patheffects import withStroke

from jaxsal.figures.palette import FAINT, LIGHT, OMEGA, PAPER, Colours
from jaxsal.wording import number

if TYPE_CHECKING:
    from jaxsal.figures.scene import Array, Scene

SIDES = {2: ("R", "L", "A"), 1: ("R", "L", "S"), 0: ("A", "P", "S")}  # left, right, top


def write(axes: Axes, x: float, y: float, text: str, **style: Any) -> None:
    """Write into a panel, in fractions of it, legibly on any image."""
    style = {"color": LIGHT, "size": 8, **style}
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


def peaks(saliency: Array) -> str:
    """State the map's extremes, wherever in the volume they are."""
    low, high = min(float(saliency.min()), 0.0), max(float(saliency.max()), 0.0)
    return f"min {number(low)} · max {number(high)}" if low < 0 else f"max {number(high)}"


def largest(saliency: Array) -> float:
    """The largest magnitude of a map, wherever in the volume it is."""
    return float(np.abs(saliency[np.isfinite(saliency)]).max(initial=0.0))


def show(
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


def draw_image(axes: Axes, scene: Scene, axis: int, channel: int, *, dimmed: bool = False) -> None:
    """Draw the channel in greys, dimmed ones for colours to stand out.

    A z-scored image has zeros outside the head, which are shown black.
    """
    plane = scene.plane(scene.image[..., channel], axis)
    low, high = scene.windows[channel]
    greys = Normalize(low, low + 1.7 * (high - low) if dimmed else high, clip=True)
    show(axes, scene, axis, np.where(plane == 0, low, plane), greys, "gray")


def draw_map(axes: Axes, scene: Scene, axis: int, channel: int, colours: Colours) -> None:
    """Draw the channel's map over its image, with the outlines of lesions."""
    draw_image(axes, scene, axis, channel, dimmed=True)
    show(axes, scene, axis, scene.map_plane(axis, channel), *colours)
    draw_outlines(axes, scene, axis)


def frame(axes: Axes, axis: int, centre: Array, half: float) -> None:
    """Show a square of mm around a centre, mirrored to the radiological view, sides named."""
    x, y = np.delete(centre, axis)
    axes.set_xlim(x + half, x - half)
    axes.set_ylim(y - half, y + half)
    left, right, top = SIDES[axis]
    write(axes, 0.025, 0.5, left, size=7, ha="left", va="center")
    write(axes, 0.975, 0.5, right, size=7, ha="right", va="center")
    write(axes, 0.5, 0.975, top, size=7, ha="center", va="top")


def draw_outlines(axes: Axes, scene: Scene, axis: int) -> None:
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


def draw_ruler(axes: Axes, half: float) -> None:
    """Draw a length to compare with, about a quarter of the panel."""
    length = 10 if half < 45 else 20
    share = length / (2 * half)
    line = [0.04, 0.04 + share], [0.045, 0.045]
    halo = [withStroke(linewidth=3, foreground="#000000b0")]
    axes.plot(*line, color=LIGHT, linewidth=1.6, transform=axes.transAxes, path_effects=halo)
    write(axes, 0.04, 0.065, f"{length} mm", size=7)
