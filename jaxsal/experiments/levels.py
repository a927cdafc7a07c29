"""The map of all segmented voxels beside those of single lesions (Figs. 3, 10)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from jaxsal.cohort.results import CohortResults, ScanResults
from jaxsal.errors import InputError
from jaxsal.experiments.catalogue import Experiment, NoSettings
from jaxsal.experiments.derived import Derived, derive
from jaxsal.experiments.direct import exact
from jaxsal.experiments.findings import Findings
from jaxsal.experiments.levels_figure import LEVELS, Pair, draw
from jaxsal.experiments.levels_neighbours import Neighbour, nearest, values_at, voxels_of
from jaxsal.experiments.statistics import median_interval
from jaxsal.figures.palette import UNITS
from jaxsal.saliency.maps import Crop
from jaxsal.tables import Row

if TYPE_CHECKING:
    from jaxsal.experiments.study import Study

CLASS = 1  # the label of all segmented voxels
NEAR = 10.0  # mm
_OF_INSTANCE, _OF_CLASS = "smoothgrad-max", "smoothgrad-sum"

_COLUMNS = {
    "scan": "what the scan is called in the cohort",
    "label": "value of the lesion in the label map",
    "kind": "TP or FP against the reference; predicted; given",
    "volume_mm3": "volume in mm³",
    "neighbour": "label of the nearest other lesion; empty: there is none",
    "gap_mm": "distance to it in mm, between the nearest centres of voxels",
    "channel": "with respect to which the maps are",
    "instance_own": f"largest magnitude of the lesion's map inside the lesion, {UNITS}",
    "instance_neighbour": "the same inside the neighbour",
    "instance_ratio": "of the two: how much of the neighbour shows in the lesion's map",
    "class_own": "largest magnitude of the class-level map (Eq. 1) inside the lesion",
    "class_neighbour": "the same inside the neighbour",
    "class_ratio": "of the two: how much of the neighbour shows in the class-level map",
}
_SUMMARY_COLUMNS = {
    "channel": "with respect to which the maps are",
    "map": "instance: of the lesion itself; class: of all segmented voxels (Eq. 1)",
    "neighbour_within_mm": "largest distance to the neighbour, in mm; any: all neighbours",
    "n": "number of lesions that have such a neighbour",
    "median_ratio": "median of the table's ratios of that map",
    "low": "95 % confidence interval of it, as if lesions were independent",
    "high": "its upper end",
    "share_above_a_half": "share of lesions whose ratio is more than 0.5, from 0 to 1",
}


class _Neighbours(NamedTuple):
    """Two lesions of a scan."""

    stem: str
    labels: tuple[int, int]
    gap: float  # mm
    sizes: tuple[int, int]  # voxels

    def rank(self) -> tuple[float, float]:
        """Near ones come first; of equally near ones those that are both large and alike."""
        return round(self.gap, 3), -(min(self.sizes) ** 2) / max(self.sizes)


def levels(study: Study, settings: NoSettings) -> Findings:
    """How much of a lesion's nearest neighbour shows in its own map, and in that of the class."""
    instances = study.lesions()
    classes = _class_level(study, instances)
    rows: list[Row] = []
    pairs: list[_Neighbours] = []
    study.monitor.stage("levels")
    for scan, whole in _both(instances, classes):
        voxels = _segmented(scan)
        around = nearest(voxels, scan.grid.spacing)
        if len(voxels) == 1:
            study.note(f"{scan.id} has one segmented lesion only: it has no neighbour")
        rows += _rows(scan, whole, instances, voxels, around)
        study.monitor.detail(f"{scan.id}: {len(rows)} rows")
        for label, other in around.items():
            sizes = (len(voxels[label]), len(voxels[other.label]))
            pairs.append(_Neighbours(scan.record.stem, (label, other.label), other.gap, sizes))
    if not rows:
        where = "other scan" if study.left_out else "scan"
        study.note_none(f"no lesion was found in any {where}: there is no map to compare")
    figure = None
    if pairs:
        closest = min(pairs, key=_Neighbours.rank)
        figure = draw(_pair(closest, instances, classes), rows, instances.channels)
    elif rows:
        study.note("no scan has two segmented lesions: there is no pair to draw")
    summary = [_bleeding(rows, *each) for each in product(instances.channels, LEVELS, (NEAR, None))]
    notes = tuple(study.notes)
    return Findings(_COLUMNS, rows, summary if rows else [], figure, notes, _SUMMARY_COLUMNS)


def _class_level(study: Study, instances: CohortResults) -> CohortResults | None:
    """The maps of all segmented voxels of each scan as one domain (Eq. 1)."""
    entries = {entry.stem: entry for entry in study.entries}
    derived = []
    for scan in instances.scans():
        entry = entries[scan.record.stem]
        try:
            domain = scan.labels if entry.scan.instances else scan.probability >= study.threshold
        except InputError as error:
            study.leave_out("class-level", scan.id, str(error))
            continue
        labels = np.where(domain > 0, CLASS, 0)
        derived += derive(study, "class-level", entry, scan.grid, [Derived("", labels)])
    if not derived:
        return None
    return study.run("class-level", derived, exact(study.saliency, "sum"))


def _both(
    instances: CohortResults, classes: CohortResults | None
) -> Iterator[tuple[ScanResults, Crop]]:
    """Scans with their class-level maps."""
    if classes is None:
        return
    whole = {scan.record.stem: scan for scan in classes.scans()}
    for scan in instances.scans():
        if scan.rows and scan.record.stem in whole:
            yield scan, whole[scan.record.stem].map(CLASS, classes.methods[_OF_CLASS])


def _segmented(scan: ScanResults) -> dict[int, np.ndarray]:
    """The voxels of the lesions that have a map, without those that are missed."""
    wanted = {row["label"] for row in scan.rows if row["kind"] != "FN"}
    return {label: part for label, part in voxels_of(scan.labels).items() if label in wanted}


def _rows(
    scan: ScanResults,
    whole: Crop,
    instances: CohortResults,
    voxels: Mapping[int, np.ndarray],
    around: Mapping[int, Neighbour],
) -> Iterator[Row]:
    for row in scan.rows:
        own = voxels.get(row["label"])
        if own is None:
            continue
        crop = scan.map(row["label"], instances.methods[_OF_INSTANCE])
        near = around.get(row["label"])
        other = voxels[near.label] if near else None
        peaks = {
            level: (_peaks(each, own), None if other is None else _peaks(each, other))
            for level, each in zip(LEVELS, (crop, whole), strict=True)
        }
        for index, channel in enumerate(scan.channels):
            yield {
                **{key: row[key] for key in ("scan", "label", "kind", "volume_mm3")},
                "neighbour": near.label if near else None,
                "gap_mm": near.gap if near else None,
                "channel": channel,
                **{
                    key: value
                    for level, (mine, theirs) in peaks.items()
                    for key, value in _ratio(level, mine, theirs, index).items()
                },
            }


def _peaks(crop: Crop, voxels: np.ndarray) -> np.ndarray:
    """Largest magnitude (C,) of a map inside a lesion."""
    peaks: np.ndarray = np.abs(values_at(crop, voxels)).max(0)
    return peaks


def _ratio(level: str, own: np.ndarray, neighbour: np.ndarray | None, channel: int) -> Row:
    mine = float(own[channel])
    theirs = None if neighbour is None else float(neighbour[channel])
    return {
        f"{level}_own": mine,
        f"{level}_neighbour": theirs,
        f"{level}_ratio": theirs / mine if theirs is not None and mine else None,
    }


def _bleeding(rows: Sequence[Row], channel: str, level: str, within: float | None) -> Row:
    """How much of the neighbour shows, over all lesions that have one, or a near one."""
    ratios = np.array(
        [
            row[f"{level}_ratio"]
            for row in rows
            if row["channel"] == channel
            and row[f"{level}_ratio"] is not None
            and (within is None or row["gap_mm"] <= within)
        ]
    )
    low, high = median_interval(ratios) or (None, None)
    return {
        "channel": channel,
        "map": level,
        "neighbour_within_mm": "any" if within is None else f"{within:g}",
        "n": len(ratios),
        "median_ratio": float(np.median(ratios)) if len(ratios) else None,
        "low": low,
        "high": high,
        "share_above_a_half": float((ratios > 0.5).mean()) if len(ratios) else None,
    }


def _pair(closest: _Neighbours, instances: CohortResults, classes: CohortResults | None) -> Pair:
    assert classes is not None  # or there would be no pair
    scan, whole = (
        next(scan for scan in results.scans() if scan.record.stem == closest.stem)
        for results in (instances, classes)
    )
    maps = tuple(scan.map(label, instances.methods[_OF_INSTANCE]) for label in closest.labels)
    whole_map = whole.map(CLASS, classes.methods[_OF_CLASS])
    return Pair(scan, closest.labels, closest.gap, whole_map, maps)


EXPERIMENT = Experiment(levels)
