"""The table over a cohort: its columns, and the part of a row that comes from a map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from jaxsal.inputs.entries import Entry
from jaxsal.lesions import Instance
from jaxsal.saliency.maps import Crop
from jaxsal.saliency.methods.appearance import Appearance
from jaxsal.scan.lesion_table import APPROXIMATED, instance_columns, instance_row
from jaxsal.scan.map_statistics import shell_sums, shells, statistics_row
from jaxsal.tables import Column, Row

_SCAN = (
    Column("scan", "scan", "what the scan is called in the cohort"),
    Column("subject", "subject", "the subject's label"),
    Column("session", "session", "the session's label, if there is one"),
)
_SAMPLES = Column("samples", "samples", "noisy images that the map is the mean of", 0)
_SECONDS = Column(
    "seconds", "seconds", "seconds that its maps took; a portion's time is shared out by voxels", 2
)


def lesion_columns(methods: Sequence[Appearance]) -> list[Column]:
    """The columns, for the maps of these methods."""
    return [
        *_SCAN,
        *instance_columns(),
        *([_SAMPLES] if any(shown.averaged for shown in methods) else []),
        *([APPROXIMATED] if any(shown.approximation for shown in methods) else []),
        _SECONDS,
        *(column for shown in methods for column in _columns_of(shown)),
    ]


def _columns_of(shown: Appearance) -> list[Column]:
    columns = shown.page_columns()
    if shown.signed:
        columns += [
            Column(f"{name}_{key}", key.replace("_", " "), meaning, None, group=name)
            for name in shown.maps
            for key, meaning in shells().items()
        ]
    return sorted(columns, key=lambda column: shown.maps.index(column.group))


def map_row(
    shown: Appearance, crop: Crop, domain: np.ndarray, spacing: tuple[float, float, float]
) -> Row:
    """The part of a lesion's row that comes from a map.

    Args:
        shown: how maps of its method appear.
        crop: the map.
        domain: (X, Y, Z) bool, the lesion.
        spacing: voxel size in mm.
    """
    row = statistics_row(shown, crop, domain)
    if shown.signed:
        for name, sums in zip(shown.maps, shell_sums(crop, domain, spacing), strict=True):
            row.update({f"{name}_{key}": value for key, value in sums.items()})
    return row


def with_seconds(
    rows: Mapping[int, Row], voxels: Mapping[int, int], seconds: float
) -> dict[int, Row]:
    """The rows of a portion, by label, with its time shared by voxels."""
    each = seconds / max(sum(voxels[label] for label in rows), 1)
    return {label: {**row, "seconds": each * voxels[label]} for label, row in rows.items()}


def scan_rows(
    entry: Entry, instances: Sequence[Instance], portions: Sequence[Mapping[int, Row]]
) -> list[Row]:
    """The rows of a scan, from those of its portions by label."""
    scan = {
        "scan": entry.id,
        "subject": entry.entities["subject"],
        "session": entry.entities.get("session", ""),
    }
    rows = []
    for instance in instances:
        own = [portion[instance.label] for portion in portions if instance.label in portion]
        if own:
            seconds = sum(row["seconds"] for row in own)
            merged = {key: value for row in own for key, value in row.items()}
            rows.append({**scan, **instance_row(instance), **merged, "seconds": seconds})
    return rows
