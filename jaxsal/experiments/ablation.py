"""How peaks depend on the volume of a lesion, by the maximum, the mean and the sum."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from jaxsal.experiments.ablation_figure import draw
from jaxsal.experiments.catalogue import Experiment, NoSettings
from jaxsal.experiments.direct import exact
from jaxsal.experiments.findings import Findings
from jaxsal.experiments.statistics import (
    FEWEST_IN_GROUP,
    few_patients,
    pooled,
    rank_correlation,
    spearman_test,
    with_holm,
)
from jaxsal.figures.palette import UNITS

if TYPE_CHECKING:
    from jaxsal.cohort.results import CohortResults
    from jaxsal.experiments.study import Study
    from jaxsal.tables import Row

AGGREGATES = ("max", "mean", "sum")
SIZES = ("all", "small", "middle", "large")
_LESION = ("scan", "subject", "label", "kind", "volume_mm3")

COLUMNS = {
    "scan": "what the scan is called in the cohort",
    "subject": "the patient",
    "label": "value of the lesion in the label map",
    "kind": "TP, FP or FN against the reference; predicted; given",
    "volume_mm3": "volume in mm³",
    "third": "small, middle or large, by volume among all lesions",
    "channel": "with respect to which the map is",
    "aggregate": "max: Eq. 3, the signed maximum over the lesion; mean: Eq. 2; sum: Eq. 2 without "
    "the division by the number of voxels",
    "peak": f"largest magnitude of the map, {UNITS}",
}
SUMMARY_COLUMNS = {
    "kinds": "of lesions: all together; TP: those alone, with thirds of their own",
    "aggregate": COLUMNS["aggregate"],
    "channel": COLUMNS["channel"],
    "lesions": "all, or a third of them by volume",
    "n": "number of lesions",
    "patients": "whose they are",
    "figure": "rho: Spearman's correlation of peak and volume; slope: of log peak on log volume, "
    "0: peaks do not depend on it, 1: they are proportional",
    "value": "of the figure",
    "low": "95 % confidence interval, resampling patients",
    "high": "its upper end",
    "first": "aggregate that is compared",
    "second": "the one that it is compared with, lesion by lesion",
    "slope_difference": "slope of the first less that of the second",
    "p": "of no correlation of the ratio of a lesion's two peaks with its volume, two-sided, as if "
    "lesions were independent",
    "p_holm": "adjusted after Holm for all comparisons",
}


def ablation(study: Study, settings: NoSettings) -> Findings:
    """Peaks of each lesion's maps by the maximum, the mean and the sum, against its volume.

    The sum's map is the mean's times the lesion's number of voxels, so it takes no further maps.
    """
    means = exact(study.saliency, "mean")
    results = study.lesions(), study.run("lesions-mean", study.entries, means)
    rows = in_thirds(list(rows_of(*results)))
    if not rows:
        study.note_none("no lesion was found in any scan: there is nothing to compare")
        return Findings(COLUMNS, [], [], None, tuple(study.notes))
    channels = results[0].channels
    _note(study, rows)
    return Findings(
        COLUMNS,
        rows,
        summary_of(rows, channels),
        draw(rows, channels, AGGREGATES),
        tuple(study.notes),
        SUMMARY_COLUMNS,
    )


def rows_of(largest: CohortResults, means: CohortResults) -> Iterator[Row]:
    """Rows of the lesions that have both maps, the larger ones last."""
    by_lesion = [
        {(row["scan"], row["label"]): row for scan in results.scans() for row in scan.rows}
        for results in (largest, means)
    ]
    both = [(row, by_lesion[1][key]) for key, row in by_lesion[0].items() if key in by_lesion[1]]
    both.sort(key=lambda pair: pair[0]["volume_mm3"])
    for (one, other), channel in product(both, largest.channels):
        mean = _peak(other, channel)
        peaks = {"max": _peak(one, channel), "mean": mean, "sum": mean * one["voxels"]}
        for aggregate, peak in peaks.items():
            about = {key: one[key] for key in _LESION}
            yield {**about, "channel": channel, "aggregate": aggregate, "peak": peak}


def in_thirds(rows: Sequence[Row]) -> list[Row]:
    """The rows with the third that their lesion is in, by volume among the lesions of these."""
    volumes = {_lesion(row): row["volume_mm3"] for row in rows}
    by_volume = sorted(volumes, key=lambda lesion: volumes[lesion])
    parts = np.array_split(np.arange(len(by_volume)), 3)
    pairs = zip(SIZES[1:], parts, strict=True)
    thirds = {by_volume[index]: third for third, part in pairs for index in part}
    return [{**row, "third": thirds[_lesion(row)]} for row in rows]


def _lesion(row: Row) -> tuple[str, int]:
    return row["scan"], row["label"]


_SAME_VOLUME = 1e-6  # of logarithms: volumes that differ by rounding only


def _peak(row: Mapping[str, float], channel: str) -> float:
    return max(abs(row[f"{channel}_max"]), abs(row[f"{channel}_min"]))


def slope(values: np.ndarray) -> float:
    """Of log peak on log volume by least squares, of columns (L, 2); NaN for equal volumes.

    Lesions whose peak is zero have no logarithm and are left out.
    """
    volumes, peaks = np.log(values[values[:, 1] > 0]).T
    if not len(volumes) or np.ptp(volumes) < _SAME_VOLUME:
        return np.nan
    apart = volumes - volumes.mean()
    return float(apart @ peaks) / float(apart @ apart)


def _slope_difference(values: np.ndarray) -> float:
    """Of columns (L, 3): volumes, and peaks of two aggregates."""
    return slope(values[:, [0, 1]]) - slope(values[:, [0, 2]])


def summary_of(rows: Sequence[Row], channels: Sequence[str]) -> list[Row]:
    """Dependences on volume, and comparisons of aggregates; also of TP alone, beside others."""
    kinds = {"all": rows}
    true = [row for row in rows if row["kind"] == "TP"]
    if 0 < len(true) < len(rows):
        kinds["TP"] = in_thirds(true)
    found: list[Row] = []
    compared: list[Row] = []
    for name, own in kinds.items():
        asked = product(AGGREGATES, channels, FIGURES, SIZES)
        found += [{"kinds": name, **dependence(own, *each)} for each in asked]
        pairs = product(AGGREGATES[1:], channels)
        compared += [{"kinds": name, **comparison(own, *each)} for each in pairs]
    return [*found, *with_holm(compared)]


FIGURES: Mapping[str, Callable[[np.ndarray], float]] = {"rho": rank_correlation, "slope": slope}


def dependence(
    rows: Sequence[Row], aggregate: str, channel: str, figure: str, size: str = "all"
) -> Row:
    """How the peaks of an aggregate depend on volume, over all lesions or a third of them."""
    own = [row for row in _of(rows, aggregate, channel) if size in ("all", row["third"])]
    values = [(row["volume_mm3"], row["peak"]) for row in own]
    found = pooled(FIGURES[figure], values, [row["subject"] for row in own])
    return {
        "aggregate": aggregate,
        "channel": channel,
        "figure": figure,
        "lesions": size,
        **asdict(found),
    }


def comparison(rows: Sequence[Row], aggregate: str, channel: str) -> Row:
    """How the dependence of an aggregate on volume differs from the maximum's, by lesion."""
    largest, own = _of(rows, "max", channel), _of(rows, aggregate, channel)
    pairs = [
        (row["volume_mm3"], row["peak"], other["peak"])
        for row, other in zip(own, largest, strict=True)
    ]
    found = pooled(_slope_difference, pairs, [row["subject"] for row in own])
    ratios = [(volume, one / two) for volume, one, two in pairs if one > 0 and two > 0]
    _, p = spearman_test(*np.array(ratios).reshape(-1, 2).T) or (None, None)
    return {
        "first": aggregate,
        "second": "max",
        "channel": channel,
        "n": found.n,
        "patients": found.patients,
        "slope_difference": found.value,
        "low": found.low,
        "high": found.high,
        "p": p,
        "p_holm": None,
    }


def _of(rows: Sequence[Row], aggregate: str, channel: str) -> list[Row]:
    return [row for row in rows if (row["aggregate"], row["channel"]) == (aggregate, channel)]


def _note(study: Study, rows: Sequence[Row]) -> None:
    study.note(few_patients(len({row["subject"] for row in rows})))
    lesions = len({_lesion(row) for row in rows})
    if lesions < 3 * FEWEST_IN_GROUP:
        study.note(
            f"{lesions} lesions are too few for thirds of {FEWEST_IN_GROUP}: what is empty is not "
            "computed"
        )
    zero = sum(row["peak"] == 0 for row in rows)
    if zero:
        study.note(f"{zero} maps are zero everywhere: they are in no slope")


EXPERIMENT = Experiment(ablation)
