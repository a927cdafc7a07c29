"""One picture per prepared scan, to see at a glance whether images lie on each other.

A row per registered channel, whose tiles alternate with those of the fixed image, before and after:
edges run on from tile to tile if the two are aligned. A row per corrected channel: before, with the
field's contour lines, and after. A row for the brain, where skulls were removed: the mask's
outline, and what is left. Slices are shown the radiological way, as in all pictures.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from nibabel.orientations import apply_orientation, io_orientation

from jaxsal.figures.canvas import Canvas
from jaxsal.figures.palette import FAINT, HOT
from jaxsal.figures.scene import PLANES, cut
from jaxsal.grid import Grid

TILE = 22.0
"""Edge length of a tile in mm."""

_PANEL, _GAP, _LEFT, _TOP, _ROW = 1.9, 0.05, 0.35, 0.75, 0.28  # inches
_TINT = np.array([1.0, 0.82, 0.55])  # of the registered image's tiles
# Of the field's contour lines: powers of e; matplotlib dashes lines of one colour below zero.
_LEVELS = np.arange(-10, 11) * 0.05

Pair = tuple[np.ndarray, np.ndarray]


def check_picture(
    title: str,
    grid: Grid,
    fixed: np.ndarray,
    registered: Mapping[str, Pair],
    corrected: Mapping[str, Pair],
    brain: np.ndarray | None = None,
) -> Figure:
    """Draws what was done to a scan.

    Args:
        title: heading of the figure.
        grid: of all volumes, (X, Y, Z).
        fixed: the image that others were registered to.
        registered: by channel, the image before and after, both on the grid.
        corrected: by channel, the image before correction and the field that it is divided by.
        brain: the mask by which skulls were removed, if they were.

    Returns:
        A figure on an Agg canvas; no global state of matplotlib is used or changed.
    """
    first = len(registered)
    after = first + (0 if brain is None else 1)
    rows = max(after + len(corrected), 1)
    width, height = _LEFT + 6 * (_PANEL + _GAP) + 0.2, _TOP + rows * (_PANEL + _ROW) + 0.1
    canvas = Canvas(width, height)
    canvas.write(_LEFT, 0.4, title, size=12)
    view = _View(canvas, grid, fixed)
    for row, (channel, pair) in enumerate(registered.items()):
        view.write(row, 0, f"{channel} (yellowish tiles), by the headers")
        view.write(row, 3, f"{channel}, registered")
        for half, moving in enumerate(pair):
            view.draw_tiles(row, 3 * half, fixed, moving)
    if brain is not None:
        view.write(first, 0, "outline of the brain's mask")
        view.write(first, 3, "without the skull")
        view.draw_outline(first, fixed, brain)
        view.draw(first, 3, np.where(brain, fixed, 0))
    if not registered and not corrected and brain is None:
        view.write(0, 0, "on its new grid")
        view.draw(0, 0, fixed)
    for row, (channel, (before, field)) in enumerate(corrected.items(), after):
        spread = np.percentile(field[before != 0], (1, 99)) if before.any() else (1.0, 1.0)
        lines = f"{spread[0]:.2f} to {spread[1]:.2f}, a line per 5 %, dashed below 1"
        view.write(row, 0, f"{channel} and its bias field, {lines}")
        view.write(row, 3, f"{channel}, corrected")
        view.draw_field(row, before, field)
        view.draw(row, 3, before / field)
    return canvas.figure


class _View:
    """Panels of a figure, and where to cut volumes for them."""

    def __init__(self, canvas: Canvas, grid: Grid, fixed: np.ndarray) -> None:
        self._canvas = canvas
        self._turn = io_orientation(grid.affine_mm)
        order = np.argsort(self._turn[:, 0])
        self._spacing = np.asarray(grid.spacing)[order]
        turned = self._ras(fixed)
        bright = turned > turned.mean()
        ends = [_ends(bright.any(tuple(np.delete(range(3), axis)))) for axis in range(3)]
        self._focus = [(first + last) // 2 for first, last in ends]
        # What is bright may move by an eighth of the view to each side and stay in it.
        self._half = 0.65 * max(
            (last - first + 1) * size
            for (first, last), size in zip(ends, self._spacing, strict=True)
        )

    def draw(self, row: int, column: int, volume: np.ndarray) -> None:
        """Draws the three planes of a volume, in grey."""
        scaled = _scaled(volume)
        for offset, (_, axis) in enumerate(PLANES):
            self._show(self._panel(row, column + offset), self._plane(scaled, axis), axis)

    def draw_tiles(self, row: int, column: int, fixed: np.ndarray, moving: np.ndarray) -> None:
        """Draws tiles of two volumes in turn."""
        one, two = _scaled(fixed), _scaled(moving)
        for offset, (_, axis) in enumerate(PLANES):
            planes = [self._plane(volume, axis)[..., None] for volume in (one, two)]
            tiles = self._tiles(planes[0].shape[:2], axis)[..., None]
            coloured = np.where(tiles, planes[1] * _TINT, planes[0] * np.ones(3))
            self._show(self._panel(row, column + offset), coloured, axis)

    def draw_field(self, row: int, volume: np.ndarray, field: np.ndarray) -> None:
        """Draws a volume, and lines where the field has the same value."""
        self.draw(row, 0, volume)
        logarithm = np.log(field)
        for offset, (_, axis) in enumerate(PLANES):
            axes = self._canvas.figure.axes[offset - len(PLANES)]
            plane = np.where(self._plane(volume, axis) != 0, self._plane(logarithm, axis), np.nan)
            levels = [v for v in _LEVELS if np.nanmin(plane) < v < np.nanmax(plane)]
            if levels:
                x, y = (np.arange(n) for n in plane.shape)
                axes.contour(x, y, plane.T, levels=levels, colors=HOT[2], linewidths=0.7)

    def draw_outline(self, row: int, volume: np.ndarray, mask: np.ndarray) -> None:
        """Draws a volume, and the border of a mask."""
        self.draw(row, 0, volume)
        for offset, (_, axis) in enumerate(PLANES):
            axes = self._canvas.figure.axes[offset - len(PLANES)]
            plane = self._plane(mask.astype(np.float32), axis)
            if plane.min() < plane.max():
                x, y = (np.arange(n) for n in plane.shape)
                axes.contour(x, y, plane.T, levels=[0.5], colors=HOT[2], linewidths=0.7)

    def write(self, row: int, column: int, text: str) -> None:
        """Writes above a panel."""
        left, bottom = self._corner(row, column)
        above = self._canvas.height - bottom - _PANEL - 0.06
        self._canvas.write(left, above, text, color=FAINT, size=8.5)

    def _ras(self, volume: np.ndarray) -> np.ndarray:
        turned: np.ndarray = apply_orientation(volume, self._turn)
        return turned

    def _plane(self, volume: np.ndarray, axis: int) -> np.ndarray:
        return cut(self._ras(volume), axis, self._focus[axis])

    def _tiles(self, shape: tuple[int, ...], axis: int) -> np.ndarray:
        spacing = np.delete(self._spacing, axis)
        a, b = (np.arange(n) * s // TILE for n, s in zip(shape, spacing, strict=True))
        checks: np.ndarray = (a[:, None] + b[None]) % 2 == 1
        return checks

    def _corner(self, row: int, column: int) -> tuple[float, float]:
        left = _LEFT + column * (_PANEL + _GAP) + (0.2 if column > 2 else 0)
        return left, self._canvas.height - _TOP - (row + 1) * (_PANEL + _ROW) + _ROW

    def _panel(self, row: int, column: int) -> Axes:
        axes = self._canvas.panel(*self._corner(row, column), _PANEL, _PANEL, f"{row} {column}")
        axes.set_axis_off()
        return axes

    def _show(self, axes: Axes, plane: np.ndarray, axis: int) -> None:
        across, up = np.delete(self._spacing, axis)
        style: dict[str, Any] = {"cmap": "gray", "vmin": 0, "vmax": 1, "interpolation": "nearest"}
        axes.imshow(np.swapaxes(plane, 0, 1), origin="lower", aspect=up / across, **style)
        x, y = np.delete(self._focus, axis)
        wide, high = self._half / across, self._half / up
        axes.set(xlim=(x + wide, x - wide), ylim=(y - high, y + high))  # right or front on the left


def _ends(filled: np.ndarray) -> tuple[int, int]:
    """First and last place of the filled part of an axis; of an empty one, of all."""
    places = np.flatnonzero(filled) if filled.any() else np.arange(filled.size)
    return int(places[0]), int(places[-1])


def _scaled(volume: np.ndarray) -> np.ndarray:
    """Intensities from 0 to 1, robust to a few extreme voxels; zeros stay black."""
    content = volume[volume != 0]
    low, high = np.percentile(content, (1, 99.5)) if content.size else (0.0, 1.0)
    scaled = np.clip((volume - low) / max(float(high - low), 1e-12), 0, 1)
    return np.where(volume != 0, scaled, 0).astype(np.float32)
