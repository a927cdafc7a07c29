"""The table of regions: how much of each map lies in each region of a parcellation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxsal.tables import Column, Row

if TYPE_CHECKING:
    from jaxsal.inputs.parcellation import Parcellation
    from jaxsal.saliency.maps import Crop
    from jaxsal.saliency.methods.appearance import Appearance

REGIONS = "regions"
"""Where a lesion's row keeps the rows of its maps' regions."""

_OF_LESION = (
    Column("label", "label", "value of the lesion in the label map; 0 for a class-level map", 0),
    Column("kind", "kind", "of the lesion"),
)
_OF_MAP = (
    Column("method", "method", "which computed the map"),
    Column("channel", "channel", "of the map, as its columns in the table of lesions begin"),
    Column("index", "index", "label of the region in the parcellation; 0: in no region", 0),
    Column("region", "region", "its name, or its label where there are no names"),
    Column("mass_share", "share of mass", "part of the map's total magnitude, from 0 to 1"),
    Column("peak", "peak", "largest value of the map in the region"),
)
REGION_COLUMNS = (*_OF_LESION, *_OF_MAP)
"""Columns of the table of regions."""


def region_rows(
    method: str, shown: Appearance, crop: Crop, parcellation: Parcellation
) -> list[Row]:
    """How much of a map lies in each region: rows of the table of regions, but for the lesion.

    Regions in which the map is 0 everywhere have no row.

    Args:
        method: which computed the map.
        shown: how it appears.
        crop: the map, on the network's grid.
        parcellation: the scan's.
    """
    labels = crop.box.cut(parcellation.on_network).ravel()
    order = np.argsort(labels, kind="stable")
    found, first, voxels = np.unique(labels[order], return_index=True, return_counts=True)
    beyond = [parcellation.sizes[label] for label in found.tolist()] > voxels
    rows: list[Row] = []
    for channel, values in zip(shown.maps, np.moveaxis(crop.values, -1, 0), strict=True):
        values = values.ravel()[order].astype(np.float64)
        masses, peaks = np.add.reduceat(np.abs(values), first), np.maximum.reduceat(values, first)
        peaks[beyond] = np.maximum(peaks[beyond], 0.0)  # it goes on outside of the crop
        of_map = {"method": method, "channel": channel}
        rows += [
            {**of_map, "index": label, "region": parcellation.name(label)}
            | {"mass_share": float(mass / masses.sum()), "peak": float(peak)}
            for label, mass, peak in zip(found.tolist(), masses, peaks, strict=True)
            if mass
        ]
    return rows


def all_regions(rows: Iterable[Row]) -> Iterator[Row]:
    """The rows of the table of regions, from those of lesions."""
    for row in rows:
        own = {key: row[key] for key in ("scan", "label", "kind") if key in row}
        yield from ({**own, **each} for each in row.get(REGIONS, ()))


def are_regions(kept: Any) -> bool:
    """Whether what was kept, which may be anything, can be what `region_rows` gives."""
    texts, numbers = ("method", "channel", "region"), ("index", "mass_share", "peak")
    return isinstance(kept, list) and all(
        isinstance(each, dict)
        and all(isinstance(each.get(key), str) for key in texts)
        and all(isinstance(each.get(key), int | float) for key in numbers)
        and {*each} == {*texts, *numbers}
        and isinstance(each["index"], int)
        for each in kept
    )
