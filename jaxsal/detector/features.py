"""What is measured of a lesion's maps, to tell whether the lesion is true."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from jaxsal.box import Box
from jaxsal.detector.ibsi import FIRST_ORDER, TEXTURE, discretised, first_order, texture
from jaxsal.scan.lesion_table import SHELLS_MM, distances, map_statistics

if TYPE_CHECKING:
    from jaxsal.cohort.columns import MethodOutline
    from jaxsal.cohort.results import CohortResults, ScanResults
    from jaxsal.progress import OnPart
    from jaxsal.saliency.maps import Crop
    from jaxsal.tables import Row

AROUND_MM = SHELLS_MM[0]
"""Statistics as of the IBSI are of the lesion and what lies so near to it, in mm."""
SIZE = "log_volume"

_SHELLS = SHELLS_MM[:3]
_REGION = f"lesion and {AROUND_MM:g} mm around it"
_STATISTICS = {
    "max": "largest value of the map",
    "min": "smallest value of the map",
    "positive_share": "share of the map's magnitude that is positive",
    "mean_inside": "mean of the map inside the lesion",
}
_SHELL_MEANS = {
    f"mean_to_{high:g}mm": f"mean of the map outside the lesion, from {low:g} to {high:g} mm"
    for low, high in pairwise((0.0, *_SHELLS))
}
MEASURES = {
    **_STATISTICS,
    **_SHELL_MEANS,
    **{name: f"{meaning}; {_REGION}" for name, meaning in (FIRST_ORDER | TEXTURE).items()},
}
"""Names and meanings of what is measured of each map."""

LESION_COLUMNS = {
    "scan": "what the scan is called in the cohort",
    "subject": "the patient",
    "label": "value of the lesion in the label map",
    "kind": "TP, FP or FN against the reference; predicted; given",
    "volume_mm3": "volume in mm³",
}


def feature_columns(maps: tuple[str, ...]) -> dict[str, str]:
    """Names and meanings of all features of a lesion with maps of these names."""
    measures = {f"{m}_{name}": f"{m}: {text}" for m in maps for name, text in MEASURES.items()}
    return {SIZE: "natural logarithm of the volume in mm³", **measures}


def map_features(
    crop: Crop, domain: np.ndarray, spacing: tuple[float, float, float]
) -> list[dict[str, float]]:
    """What is measured of a lesion's map, for each of its channels, by the names of `MEASURES`.

    Args:
        crop: the map; out of it, it is zero.
        domain: (X, Y, Z) bool, the lesion on the image's grid; not empty.
        spacing: voxel size in mm.
    """
    whole = Box.of(domain)
    assert whole is not None  # it is not empty
    reach = [math.ceil(_SHELLS[-1] / size) for size in spacing]
    start = (a - r for a, r in zip(whole.start, reach, strict=True))
    stop = (b + r for b, r in zip(whole.stop, reach, strict=True))
    box = Box(start, stop).clip(domain.shape)
    around = box.seen_from(crop.origin).cut(crop.values, beyond=0.0)
    distance = distances(replace(crop, values=around, origin=box.start), domain, spacing)
    return [
        {
            **{name: statistics[name] for name in _STATISTICS},
            **_shell_means(values, distance),
            **_region(values, distance <= AROUND_MM),
        }
        for statistics, values in zip(
            map_statistics(crop, domain), np.moveaxis(around, -1, 0), strict=True
        )
    ]


def _shell_means(values: np.ndarray, distance: np.ndarray) -> dict[str, float]:
    """Means in the shells, of those of their voxels that the image has; 0 if it has none."""
    shell = np.where(distance > 0, np.searchsorted(_SHELLS, distance), len(_SHELLS)).ravel()
    voxels = np.bincount(shell, minlength=len(_SHELLS))[: len(_SHELLS)]
    sums = np.bincount(shell, values.ravel(), minlength=len(_SHELLS))[: len(_SHELLS)]
    return dict(zip(_SHELL_MEANS, (sums / np.maximum(voxels, 1)).tolist(), strict=True))


def _region(values: np.ndarray, inside: np.ndarray) -> dict[str, float]:
    levels = np.zeros(values.shape, np.int64)
    levels[inside] = discretised(values[inside])
    return first_order(values[inside], levels[inside]) | texture(levels)


def scan_features(scan: ScanResults, method: MethodOutline) -> Iterator[Row]:
    """A row per explained lesion of a scan: `LESION_COLUMNS` and `feature_columns`.

    Raises:
        InputError: its maps were not kept, or a file cannot be read.
    """
    spacing = scan.grid.spacing
    for row in scan.rows:
        domain = scan.labels == row["label"]
        measured = map_features(scan.map(row["label"], method), domain, spacing)
        yield {
            **{name: row[name] for name in LESION_COLUMNS},
            SIZE: math.log(row["volume_mm3"]),
            **{
                f"{shown}_{name}": value
                for shown, values in zip(method.maps, measured, strict=True)
                for name, value in values.items()
            },
        }


def all_features(
    results: CohortResults, method: MethodOutline, on_scan: OnPart
) -> Iterator[tuple[ScanResults, list[Row]]]:
    """Each finished scan with the rows of `scan_features`.

    Raises:
        InputError: as `scan_features`.
    """
    scans = sum(1 for _ in results.scans())
    for done, scan in enumerate(results.scans(), start=1):  # not kept, nor what they have read
        yield scan, list(scan_features(scan, method))
        on_scan(done, scans)
