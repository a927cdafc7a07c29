"""The figure of levels: the class-level map and those of two close lesions; neighbours' shares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxsal.figures.charts import colour_bar, legend, map_panel, new_figure, side_by_side, style
from jaxsal.figures.palette import CHANNELS, UNITS, colours_to
from jaxsal.figures.scene import Scene, bounds, make_scene
from jaxsal.saliency.maps import Crop
from jaxsal.tables import Row

if TYPE_CHECKING:
    from jaxsal.cohort.results import ScanResults

LEVELS = ("instance", "class")
_COLOURS = dict(zip(LEVELS, CHANNELS, strict=False))
_PLANES = {2: "axial", 1: "coronal", 0: "sagittal"}
_MARGIN, _NARROWEST = 10.0, 18.0  # mm around a pair, and half a view's least width


@dataclass(frozen=True, eq=False)
class Pair:
    """Two close lesions of a scan.

    Attributes:
        scan: the scan.
        labels: of the lesions.
        gap: between them, in mm.
        whole: the map of all segmented voxels.
        maps: those of the lesions.
    """

    scan: ScanResults
    labels: tuple[int, int]
    gap: float
    whole: Crop
    maps: tuple[Crop, ...]


def draw(pair: Pair, rows: Sequence[Row], channels: Sequence[str]) -> Figure:
    """A row per channel: three maps of a pair in one slice, and how much neighbours show.

    Args:
        pair: of lesions.
        rows: of the table.
        channels: names of the channels.
    """
    scenes, axis = _scenes(pair)
    title = (
        f"Class-level and instance maps; {pair.scan.id}, lesions {pair.labels[0]} and "
        f"{pair.labels[1]}, {pair.gap:.1f} mm apart ({_PLANES[axis]})"
    )
    figure = new_figure(15.0, 0.6 + 3.4 * len(channels), title)
    first, second, third = side_by_side(figure, (1.2, 2.1, 1.25))
    wholes = first.subplots(len(channels), 1, squeeze=False)
    singles = second.subplots(len(channels), 2, squeeze=False)
    for line, channel in enumerate(channels):
        whole, *both = (_limit(scene, axis, line) for scene in scenes)
        for part, panels, limit, names, shown in (
            (first, wholes[line], whole, ["class level (Eq. 1)"], scenes[:1]),
            (second, singles[line], max(both), [f"lesion {i}" for i in pair.labels], scenes[1:]),
        ):
            colours = colours_to(limit)
            for panel, name, scene in zip(panels, names, shown, strict=True):
                map_panel(panel, scene, line, colours, f"{channel}, {name}", axis)
            colour_bar(part, panels, colours, UNITS)
    for panel, channel in zip(
        third.subplots(len(channels), 1, squeeze=False)[:, 0], channels, strict=True
    ):
        _ratios(panel, rows, channel)
    return figure


def _limit(scene: Scene, axis: int, channel: int) -> float:
    return float(np.abs(scene.map_plane(axis, channel)).max())


def _scenes(pair: Pair) -> tuple[list[Scene], int]:
    """The class level's and each lesion's in one view, and the axis to cut it across."""
    labels, scan = pair.scan.labels, pair.scan
    together = np.where(np.isin(labels, pair.labels), 1, np.where(labels > 0, 2, 0))
    scenes = [
        make_scene(scan.image, each, label, crop.values, crop.origin, scan.grid)
        for each, label, crop in (
            (together, 1, pair.whole),
            *((labels, label, crop) for label, crop in zip(pair.labels, pair.maps, strict=True)),
        )
    ]
    whole, one, other = scenes
    axis, place = _best_slice(one.omega, other.omega)
    focus = whole.focus.copy()
    focus[axis] = place
    low, high = bounds(whole.omega)
    half = max(_NARROWEST, float(((high - low) * whole.spacing).max()) / 2 + _MARGIN)
    centre = (low + high) / 2 * whole.spacing
    return [replace(scene, focus=focus, centre=centre, half=half) for scene in scenes], axis


def _best_slice(one: np.ndarray, other: np.ndarray) -> tuple[int, int]:
    """Axis and position of the slice that shows most of the lesion it shows least of.

    An axial one, unless there is none through both.
    """
    found = {}
    for axis in _PLANES:
        across = tuple(i for i in range(3) if i != axis)
        areas = np.minimum(one.sum(across), other.sum(across))
        if areas.any():
            return axis, int(areas.argmax())
        found[axis] = int(one.sum(across).argmax())
    return 2, found[2]  # there is no slice through both: they are nearest by a corner


def _ratios(axes: Axes, rows: Sequence[Row], channel: str) -> None:
    own = [row for row in rows if row["channel"] == channel and row["gap_mm"] is not None]
    for level in LEVELS:
        known = [row for row in own if row[f"{level}_ratio"] is not None]
        axes.scatter(
            [row["gap_mm"] for row in known],
            [max(row[f"{level}_ratio"], 1e-4) for row in known],
            s=14,
            color=_COLOURS[level],
            alpha=0.75,
            linewidths=0,
            label=f"{level}: n = {len(known):,}",
        )
    style(
        axes,
        f"{channel}: peak in the nearest neighbour\nas a share of the peak in the lesion",
        "distance to the neighbour, mm",
        "ratio (drawn as 0.0001 if smaller)",
    )
    axes.set_yscale("log")
    axes.minorticks_off()
    axes.axhline(1, color="#16191d", linewidth=0.8, linestyle=":")
    legend(axes)
