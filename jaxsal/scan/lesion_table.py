"""The table of a scan's lesions: its columns, and what a row holds beside a map's statistics."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from jaxsal.saliency.maps import CLASS_LEVEL
from jaxsal.tables import Column, Row

if TYPE_CHECKING:
    from jaxsal.grid import Grid
    from jaxsal.lesions import Instance

# Columns of the table: key, unit or meaning, decimals.
INSTANCE_COLUMNS = {
    "label": ("value of the lesion in the label map", 0),
    "kind": ("TP, FP or FN against the reference; predicted; given by the user; class", None),
    "voxels": ("size in voxels", 0),
    "volume_mm3": ("volume in mm³", 1),
    "x_mm": ("centroid in world coordinates, mm", 1),
    "y_mm": ("centroid in world coordinates, mm", 1),
    "z_mm": ("centroid in world coordinates, mm", 1),
}

APPROXIMATED = Column(
    "approximated",
    "approximated",
    "exact, or how many of the lesion's voxels were differentiated, or how many were summed",
)


def instance_row(instance: Instance) -> Row:
    """A lesion's row of the table, without statistics of its map."""
    return _row(
        instance.label, instance.kind, instance.voxels, instance.volume_mm3, instance.centroid_mm
    )


def class_row(domain: np.ndarray, grid: Grid) -> Row:
    """The row of a class-level map over this domain (X, Y, Z) bool."""
    positions = np.argwhere(domain)
    centroid = tuple(grid.world(positions.mean(0)).tolist())
    volume = len(positions) * grid.voxel_volume
    return _row(CLASS_LEVEL, "class", len(positions), volume, centroid)


def _row(label: int, kind: str, voxels: int, volume: float, centroid: Sequence[float]) -> Row:
    return dict(zip(INSTANCE_COLUMNS, (label, kind, voxels, volume, *centroid), strict=True))


def instance_columns() -> list[Column]:
    """The page's columns for what a row holds beside the map's statistics."""
    return [
        Column(key, key.replace("_mm3", " (mm³)").replace("_mm", " (mm)"), text, digits)
        for key, (text, digits) in INSTANCE_COLUMNS.items()
    ]


def for_reading(rows: Iterable[Row]) -> list[Row]:
    """Rows as a reader wants them: true lesions, then missed ones, then false alarms; by size."""
    known = {"TP": 0, "FN": 1, "FP": 2}
    return sorted(rows, key=lambda row: (known.get(row["kind"], 0), -row["voxels"], row["label"]))
