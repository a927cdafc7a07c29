"""The table over a cohort: its columns, and the part of a row that comes from a map.

Columns and methods of a run are kept in ``run.json``: reports are made without the model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxsal.errors import InputError, require
from jaxsal.inputs.entries import Entry
from jaxsal.lesions import Instance
from jaxsal.saliency.maps import Crop
from jaxsal.saliency.methods.appearance import Appearance
from jaxsal.scan.lesion_table import (
    APPROXIMATED,
    instance_columns,
    lesion_row,
    shell_sums,
    shells,
    statistics_row,
)
from jaxsal.scan.region_table import REGIONS
from jaxsal.store.schema import as_type
from jaxsal.tables import Column, Row
from jaxsal.types import Scale

if TYPE_CHECKING:
    from jaxsal.scan.prediction import Prediction

_SCAN = (
    Column("scan", "scan", "what the scan is called in the cohort"),
    Column("subject", "subject", "the subject's label"),
    Column("session", "session", "the session's label, if there is one"),
)
_SAMPLES = Column("samples", "samples", "noisy images that the map is the mean of", 0)
_SECONDS = Column(
    "seconds", "seconds", "seconds that its maps took; a portion's time is shared out by voxels", 2
)


def lesion_columns(
    methods: Sequence[Appearance], *, uncertain: bool = False, parcelled: bool = False
) -> list[Column]:
    """The columns, for the maps of these methods.

    Args:
        methods: how their maps appear.
        uncertain: whether it is known how uncertain the network is of lesions.
        parcelled: whether there are parcellations, so that lesions' regions are known.
    """
    return [
        *_SCAN,
        *instance_columns(uncertain=uncertain, parcelled=parcelled),
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
    places = {name: place for place, name in enumerate(shown.maps)}
    return sorted(columns, key=lambda column: places.get(column.group, len(places)))


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
    rows: Mapping[int, Row], instances: Sequence[Instance], seconds: float
) -> dict[int, Row]:
    """The rows of a portion, by label, with its time shared by voxels."""
    voxels = {instance.label: instance.voxels for instance in instances}
    each = seconds / max(sum(voxels[label] for label in rows), 1)
    return {label: {**row, "seconds": each * voxels[label]} for label, row in rows.items()}


def scan_rows(
    entry: Entry, prediction: Prediction, portions: Sequence[Mapping[int, Row]]
) -> list[Row]:
    """The rows of a scan, from those of its portions by label."""
    scan = {
        "scan": entry.id,
        "subject": entry.entities["subject"],
        "session": entry.entities.get("session", ""),
    }
    rows = []
    for instance in prediction.instances:
        own = [portion[instance.label] for portion in portions if instance.label in portion]
        if own:
            seconds = sum(row["seconds"] for row in own)
            merged = {key: value for row in own for key, value in row.items()}
            if prediction.regions is not None:
                merged[REGIONS] = [each for row in own for each in row[REGIONS]]
            rows.append({**scan, **lesion_row(prediction, instance), **merged, "seconds": seconds})
    return rows


@dataclass(frozen=True)
class MethodOutline:
    """A method, and how its maps appear; see `jaxsal.Appearance`.

    Attributes:
        name: the method's.
        maps: what a map has one of each for, at the head of the table's columns.
        files: the same in the names of files.
        units: of the map.
        scale: of the pictures' colours.
        subtitle: what a picture's title says after the lesion.
    """

    name: str
    maps: tuple[str, ...]
    files: tuple[str, ...]
    units: str
    scale: Scale
    subtitle: str

    @property
    def peaks(self) -> list[str]:
        """The table's columns of the largest values, and of the smallest where there are any."""
        extremes = ("max", "min") if self.scale == "diverging" else ("max",)
        return [f"{name}_{extreme}" for name in self.maps for extreme in extremes]


@dataclass(frozen=True)
class Outline:
    """The columns and methods of a run.

    Attributes:
        columns: of the table over all lesions.
        methods: whose maps there are.
    """

    columns: tuple[Column, ...]
    methods: tuple[MethodOutline, ...]

    @classmethod
    def read(cls, run: Mapping[str, Any]) -> Outline:
        """The outline in the content of ``run.json``.

        Raises:
            InputError: there is none.
        """
        try:
            found: Outline = as_type(cls, run.get("outline"), "outline")
            known = [column.key for column in found.columns]
            missing = [column.key for column in _SCAN if column.key not in known]
            require(not missing and len({*known}) == len(known), "columns", "the lesions'", known)
            require(len(found.methods) > 0, "methods", "one or more", found.methods)
        except InputError as error:
            raise InputError(
                f"run.json does not say what the table's columns are ({error}): it was written by "
                "another version of jaxsal, or changed; run the cohort into a new folder"
            ) from error
        return found
