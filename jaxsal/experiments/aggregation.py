"""Maps by the maximum and by the mean over a lesion, and how they depend on its size (Fig. 7)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from jaxsal.cohort.results import CohortResults
from jaxsal.experiments.aggregation_figure import Example, draw
from jaxsal.experiments.catalogue import Experiment, NoSettings
from jaxsal.experiments.direct import exact
from jaxsal.experiments.findings import Findings
from jaxsal.experiments.statistics import FEWEST_IN_GROUP, median_interval, spearman_test
from jaxsal.figures.palette import UNITS
from jaxsal.tables import Row

if TYPE_CHECKING:
    from jaxsal.experiments.study import Study

AGGREGATES = ("max", "mean")
_COLUMNS = {
    "scan": "what the scan is called in the cohort",
    "label": "value of the lesion in the label map",
    "kind": "TP, FP or FN against the reference; predicted; given",
    "volume_mm3": "volume in mm³",
    "channel": "with respect to which the map is",
    "aggregate": "max: Eq. 3, the signed maximum over the lesion; mean: Eq. 2",
    "max": f"largest value of the map, {UNITS}",
    "min": f"smallest value of the map, {UNITS}",
}

_SUMMARY_COLUMNS = {
    "aggregate": _COLUMNS["aggregate"],
    "channel": "with respect to which the maps are",
    "extreme": "of a map: max, its largest value, or min, its smallest",
    "n": "number of lesions",
    "spearman_with_volume": "rank correlation of the extreme's magnitude with volume",
    "p": "of no such correlation, two-sided",
    "n_third": "number of lesions in a third",
    "median_small_third": f"median extreme of the third of the smallest lesions, {UNITS}",
    "small_low": "its 95 % confidence interval, as if lesions were independent",
    "small_high": "its upper end",
    "median_large_third": f"median extreme of the third of the largest lesions, {UNITS}",
    "large_low": "its 95 % confidence interval, as if lesions were independent",
    "large_high": "its upper end",
    "large_to_small": "ratio of the two medians",
}


def aggregation(study: Study, settings: NoSettings) -> Findings:
    """The peaks of each lesion's maps under both aggregates, and their dependence on volume."""
    results = {"max": study.lesions(), "mean": _means(study)}
    channels = results["max"].channels
    rows = [row for name, each in results.items() for row in _rows(each, name)]
    if not rows:
        study.note_none("no lesion was found in any scan: there is nothing to compare")
        return Findings(_COLUMNS, [], [], None, tuple(study.notes))
    chosen = _large_and_small(_with_both(rows))
    if len(chosen) == 1:
        study.note("there is one lesion only: nothing to compare its maps with")
    examples = [_example(results, row) for row in chosen]
    return Findings(
        _COLUMNS,
        rows,
        [dependence(rows, *each) for each in product(AGGREGATES, channels, ("max", "min"))],
        draw(examples, rows, channels) if examples else None,
        tuple(study.notes),
        _SUMMARY_COLUMNS,
    )


def _means(study: Study) -> CohortResults:
    return study.run("lesions-mean", study.entries, exact(study.saliency, "mean"))


def _rows(results: CohortResults, aggregate: str) -> Iterator[Row]:
    for scan in results.scans():
        for row, channel in product(scan.rows, results.channels):
            yield {
                **{key: row[key] for key in ("scan", "label", "kind", "volume_mm3")},
                "channel": channel,
                "aggregate": aggregate,
                "max": row[f"{channel}_max"],
                "min": row[f"{channel}_min"],
            }


def _with_both(rows: Sequence[Row]) -> list[Row]:
    """A row of each lesion that has a map under both aggregates."""
    by_aggregate = [
        {(row["scan"], row["label"]): row for row in rows if row["aggregate"] == aggregate}
        for aggregate in AGGREGATES
    ]
    largest, means = by_aggregate
    return [row for lesion, row in largest.items() if lesion in means]


def _large_and_small(lesions: Sequence[Row]) -> list[Row]:
    """The largest lesion, and the one in the middle of the smallest third; TP if there are two."""
    found = [row for row in lesions if row["kind"] == "TP"]
    by_size = sorted(found if len(found) > 1 else lesions, key=lambda row: row["volume_mm3"])
    if len(by_size) < 2:
        return by_size
    return [by_size[-1], by_size[(len(by_size) - 1) // 6]]


def _example(results: dict[str, CohortResults], row: Row) -> Example:
    """A lesion's maps, and the scan to draw them on."""
    maps = {}
    for aggregate, each in results.items():
        scan = next(scan for scan in each.scans() if scan.id == row["scan"])
        maps[aggregate] = scan.map(row["label"], each.methods[f"smoothgrad-{aggregate}"])
    return Example(f"{row['kind']} lesion, {row['volume_mm3']:.0f} mm³", scan, row["label"], maps)


def dependence(rows: Sequence[Row], aggregate: str, channel: str, extreme: str) -> Row:
    """How a peak depends on volume."""
    own = [row for row in rows if (row["aggregate"], row["channel"]) == (aggregate, channel)]
    volumes = np.array([row["volume_mm3"] for row in own])
    peaks = np.array([row[extreme] for row in own])
    correlation, p = spearman_test(volumes, np.abs(peaks)) or (None, None)
    order = np.argsort(volumes, kind="stable")
    third = len(order) // 3
    small, large = peaks[order[:third]], peaks[order[len(order) - third :]]
    enough = third >= FEWEST_IN_GROUP
    medians = [float(np.median(part)) if enough else None for part in (small, large)]
    first, last = medians
    return {
        "aggregate": aggregate,
        "channel": channel,
        "extreme": extreme,
        "n": len(own),
        "spearman_with_volume": correlation,
        "p": p,
        "n_third": third,
        "median_small_third": first,
        **_ends("small", small if enough else []),
        "median_large_third": last,
        **_ends("large", large if enough else []),
        "large_to_small": last / first if first and last is not None else None,
    }


def _ends(name: str, values: Sequence[float] | np.ndarray) -> Row:
    low, high = median_interval(values) or (None, None)
    return {f"{name}_low": low, f"{name}_high": high}


EXPERIMENT = Experiment(aggregation)
