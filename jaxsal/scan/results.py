"""The results of a scan: rows of its table, and the files of its maps."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from jaxsal.grid import Grid
from jaxsal.lesions import Instance
from jaxsal.saliency.maps import CLASS_LEVEL, Crop
from jaxsal.tables import Column, Row
from jaxsal.volumes import write_volume

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
    "exact: the maximum is taken over the gradients of all voxels of the lesion; else those of how "
    "many of them, or of the summed logits of how many at a time",
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
    """The page's columns for what a row tells without statistics of the map."""
    return [
        Column(key, key.replace("_mm3", " (mm³)").replace("_mm", " (mm)"), text, digits)
        for key, (text, digits) in INSTANCE_COLUMNS.items()
    ]


def for_reading(rows: Iterable[Row]) -> list[Row]:
    """Rows as a reader wants them: true lesions, then missed ones, then false alarms; by size."""
    known = {"TP": 0, "FN": 1, "FP": 2}
    return sorted(rows, key=lambda row: (known.get(row["kind"], 0), -row["voxels"], row["label"]))


def in_file(crop: Crop, grid: Grid) -> Crop:
    """A map on a scan's grid as one on the grid of the scan's files."""
    sides = zip(crop.origin, crop.values.shape, strict=False)
    i, j, k = (slice(int(o), int(o + n)) for o, n in sides)
    x, y, z = (part.start for part in grid.box_in_file((i, j, k)))
    error = crop.standard_error
    return replace(
        crop,
        values=grid.to_file(crop.values),
        origin=(x, y, z),
        standard_error=None if error is None else grid.to_file(error),
    )


def parts_of(crop: Crop) -> list[tuple[str, Crop]]:
    """A map and, if it is known, its standard error; each after how its files' names end."""
    if crop.standard_error is None:
        return [("", crop)]
    return [("", crop), ("_se", replace(crop, values=crop.standard_error))]


def write_maps(paths: Sequence[Path], grid: Grid, crop: Crop, *, full_grid: bool) -> None:
    """Writes a map, one file per channel of it, cropped with its affine moved or on the full grid.

    Args:
        paths: of the files, .nii.gz.
        grid: of the image.
        crop: the map.
        full_grid: whether to write it on the image's grid. Where no header says where that lies,
            this is done in any case: the crop would not lie over the image in every viewer.
    """
    values = crop.values
    if full_grid or not grid.is_placed:
        edges = [
            (o, g - o - n) for o, g, n in zip(crop.origin, grid.shape, values.shape, strict=False)
        ]
        values = np.pad(values, [*edges, (0, 0)])
    else:
        x, y, z = values.shape[:3]
        grid = grid.crop(crop.origin, (x, y, z))
    for channel, path in enumerate(paths):
        write_volume(path, np.ascontiguousarray(values[..., channel]), grid)
