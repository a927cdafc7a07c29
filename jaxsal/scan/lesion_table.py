"""The table of a scan's lesions: its columns, and a row: the lesion, and its map in numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from jaxsal.box import Box
from jaxsal.saliency.maps import CLASS_LEVEL, Crop
from jaxsal.saliency.methods.appearance import Appearance
from jaxsal.tables import Column, Row

if TYPE_CHECKING:
    from jaxsal.grid import Grid
    from jaxsal.lesions import Instance
    from jaxsal.scan.prediction import Prediction

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

UNCERTAINTY_COLUMNS = {
    "lsu": ("lesion structural uncertainty: 1 - mean IoU with the members' lesions, 0 to 1", 3),
    "entropy": ("mean over the lesion of the predictive entropy, nats, 0 to 0.693", 3),
}
"""The columns that tables have besides where there are members."""

REGION_COLUMN = {
    "region": ("that most of its voxels lie in; empty if more than half lie in none", None)
}
"""The column that tables have besides where there is a parcellation."""

APPROXIMATED = Column(
    "approximated",
    "approximated",
    "exact, or how many of the lesion's voxels were differentiated, or how many were summed",
)
SHELLS_MM = (3.0, 6.0, 12.0, 24.0, 48.0)
"""Outer bounds of the shells around a lesion, in mm; the last shell is all that lies beyond."""


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


def lesion_row(prediction: Prediction, instance: Instance) -> Row:
    """A lesion's row, with its region and how uncertain it is where that is known."""
    uncertainty = prediction.uncertainty
    row = instance_row(instance) | (uncertainty.rows[instance.label] if uncertainty else {})
    regions = prediction.regions
    return row if regions is None else {**row, "region": regions[instance.label]}


def instance_columns(*, uncertain: bool = False, parcelled: bool = False) -> list[Column]:
    """The page's columns for what a row holds beside the map's statistics.

    Args:
        uncertain: whether there are members, so that it is known how uncertain lesions are.
        parcelled: whether there is a parcellation, so that their regions are known.
    """
    shown = dict(INSTANCE_COLUMNS)
    shown |= REGION_COLUMN if parcelled else {}
    shown |= UNCERTAINTY_COLUMNS if uncertain else {}
    return [
        Column(key, key.replace("_mm3", " (mm³)").replace("_mm", " (mm)"), text, digits)
        for key, (text, digits) in shown.items()
    ]


def for_reading(rows: Iterable[Row]) -> list[Row]:
    """Rows as a reader wants them: true lesions, then missed ones, then false alarms; by size."""
    known = {"TP": 0, "FN": 1, "FP": 2}
    return sorted(rows, key=lambda row: (known.get(row["kind"], 0), -row["voxels"], row["label"]))


def shells() -> dict[str, str]:
    """Names and meanings of the columns of `shell_sums`."""
    places = {"inside": "inside the lesion"}
    low = 0.0
    for high in SHELLS_MM:
        places[f"to_{high:g}mm"] = f"outside the lesion, from {low:g} to {high:g} mm from it"
        low = high
    places[f"beyond_{low:g}mm"] = f"more than {low:g} mm from the lesion"
    return {
        f"{sign}_{name}": f"sum of the map's {sign} values {place}"
        for name, place in places.items()
        for sign in ("positive", "negative")
    }


def shell_sums(
    crop: Crop, domain: np.ndarray, spacing: tuple[float, float, float]
) -> list[dict[str, float]]:
    """Sums of a map's positive and negative values inside the lesion and in shells around it.

    Distances are those from a voxel's centre to the nearest centre of a voxel of the lesion.

    Args:
        crop: the map.
        domain: (X, Y, Z) bool, the lesion on the image's grid; not empty.
        spacing: voxel size in mm.

    Returns:
        For each of the map's channels the sums by the names of `shells`.
    """
    shell = np.searchsorted(SHELLS_MM, distances(crop, domain, spacing)) + 1
    shell[crop.box.cut(domain)] = 0
    bins = shell.ravel()
    found: list[dict[str, float]] = []
    for values in np.moveaxis(crop.values, -1, 0).reshape(crop.values.shape[-1], -1):
        sums = [
            np.bincount(bins, part, minlength=len(SHELLS_MM) + 2)
            for part in (np.maximum(values, 0), np.minimum(values, 0))
        ]
        found.append(dict(zip(shells(), np.stack(sums, axis=1).ravel().tolist(), strict=True)))
    return found


def distances(crop: Crop, domain: np.ndarray, spacing: tuple[float, float, float]) -> np.ndarray:
    """(x, y, z) mm from each voxel of the crop to the lesion, which may reach out of the crop.

    They are rounded to 0.1 µm, so that what is 3 mm away is so with any header's rounding.
    """
    whole = crop.box | Box.around(np.argwhere(domain))
    found = ndimage.distance_transform_edt(~whole.cut(domain), sampling=spacing).round(4)
    part: np.ndarray = crop.box.seen_from(whole.start).cut(found)
    return part


def map_statistics(crop: Crop, domain: np.ndarray) -> list[dict[str, float]]:
    """Statistics of a map, for each of its channels, by the names of `jaxsal.Appearance`.

    Args:
        crop: the map; the lesion may reach out of it, where it is zero.
        domain: (X, Y, Z) bool, the lesion on the image's grid; not empty.
    """
    inside, voxels = crop.box.cut(domain), int(np.count_nonzero(domain))
    return [_statistics(values, inside, voxels) for values in np.moveaxis(crop.values, -1, 0)]


def statistics_row(shown: Appearance, crop: Crop, domain: np.ndarray) -> Row:
    """A map's part of a row of the table; the domain is (X, Y, Z) bool."""
    row: Row = {"samples": crop.samples} if shown.averaged else {}
    if shown.approximation is not None:
        row["approximated"] = shown.approximation(int(np.count_nonzero(domain)))
    for name, values in zip(shown.maps, map_statistics(crop, domain), strict=True):
        row.update({f"{name}_{key}": values[key] for key in shown.statistics})
    row.update({name: crop.figures[name] for name in shown.figures})
    return row


def _statistics(values: np.ndarray, inside: np.ndarray, voxels: int) -> dict[str, float]:
    magnitude = float(np.abs(values).sum(dtype=np.float64))
    positive = float(np.maximum(values, 0).sum(dtype=np.float64))
    within = float(values[inside].sum(dtype=np.float64))
    return {
        "max": float(values.max()),
        "min": float(values.min()),
        "mean_inside": within / voxels,
        "positive_share": positive / magnitude if magnitude else 0.0,
        "inside_share": within / magnitude if magnitude else 0.0,
    }
