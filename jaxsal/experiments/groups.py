"""Peaks of the maps of found, false and missed lesions, and of what is no lesion (Fig. 11)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations, product
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from jaxsal.experiments.catalogue import Experiment
from jaxsal.experiments.choice import require_references
from jaxsal.experiments.findings import Findings
from jaxsal.experiments.statistics import FEWEST_IN_GROUP, difference, median_interval, with_holm
from jaxsal.experiments.true_negatives import SphereSettings, true_negatives
from jaxsal.figures.charts import new_figure, style
from jaxsal.figures.distributions import draw_distribution
from jaxsal.figures.palette import UNITS
from jaxsal.tables import Row
from jaxsal.wording import counted

if TYPE_CHECKING:
    from jaxsal.cohort.results import ScanResults
    from jaxsal.experiments.study import Study

GROUPS = ("TN", "FN", "FP", "TP")
EXTREMES = ("max", "min")

_COLUMNS = {
    "scan": "what the scan is called in the cohort",
    "kind": "TP, FP or FN against the reference; TN: a sphere of what is no lesion",
    "label": "of the lesion, or of the sphere among those of its scan",
    "volume_mm3": "volume in mm³",
}

SUMMARY_COLUMNS = {
    "channel": "with respect to which the maps are",
    "extreme": "of a map: max, its largest value, or min, its smallest",
    "kind": "as in the table",
    "n": "number of maps",
    "scans": "number of scans that they are from",
    "median": f"of the extremes, {UNITS}",
    "low": "95 % confidence interval of the median, as if lesions were independent",
    "high": "its upper end",
    "first": "kind that is compared",
    "second": "kind that it is compared with",
    "n_first": "number of maps of the first",
    "n_second": "number of maps of the second",
    "u": "Mann-Whitney's U of the first",
    "p": "of the two-sided test",
    "p_holm": "adjusted after Holm for all comparisons",
    "rank_biserial": "effect size from -1 to 1: 2 · first_larger - 1",
    "first_larger": "probability that a value of the first is larger than one of the second",
}


def groups(study: Study, settings: SphereSettings) -> Findings:
    """Largest and smallest values of the maps by kind of lesion, and tests of all pairs of kinds.

    Raises:
        InputError: no scan has a reference.
    """
    require_references(study)
    results = study.lesions()
    channels = results.channels
    rows = [
        row for scan in results.scans() for row in _rows(scan, channels) if row["kind"] in GROUPS
    ]
    spheres = true_negatives(study, settings, results)
    for scan in spheres.scans() if spheres else ():
        rows += [{**row, "kind": "TN"} for row in _rows(scan, channels)]
    groups = {kind: [row for row in rows if row["kind"] == kind] for kind in GROUPS}
    _note(study, settings, groups)
    columns = {**_COLUMNS, **{f"{c}_{e}": _meaning(c, e) for c, e in product(channels, EXTREMES)}}
    return Findings(
        columns,
        rows,
        [*_medians(groups, channels), *_tests(groups, channels)],
        draw(groups, channels) if rows else None,
        tuple(study.notes),
        SUMMARY_COLUMNS,
    )


def _meaning(channel: str, extreme: str) -> str:
    word = "largest" if extreme == "max" else "smallest"
    return f"{word} value of the map with respect to {channel}, {UNITS}"


def _rows(scan: ScanResults, channels: Sequence[str]) -> Iterator[Row]:
    peaks = [f"{channel}_{extreme}" for channel, extreme in product(channels, EXTREMES)]
    for row in scan.rows:
        yield {key: row[key] for key in (*_COLUMNS, *peaks)}


def _note(study: Study, settings: SphereSettings, groups: Mapping[str, Sequence[Row]]) -> None:
    empty = [kind for kind, rows in groups.items() if not rows]
    if empty:
        study.note(f"there are none of {', '.join(empty)}: they are in no comparison")
    few = [
        f"{kind} ({len(rows)})" for kind, rows in groups.items() if 0 < len(rows) < FEWEST_IN_GROUP
    ]
    if few:
        study.note(
            f"too few to be tested, which needs {FEWEST_IN_GROUP} in each group: "
            f"{', '.join(few)}; they are in no comparison"
        )
    sizes = {
        kind: np.median([r["volume_mm3"] for r in rows]) for kind, rows in groups.items() if rows
    }
    medians = ", ".join(f"{kind} {size:.0f}" for kind, size in sizes.items())
    spheres = _sphere_volumes([row["volume_mm3"] for row in groups["TN"]], settings.sphere_volume)
    study.note(
        f"{spheres}median volumes in mm³: {medians}. Larger domains have more gradients to take "
        "the maximum of, so part of a difference, or of its absence, may be one of size"
    )
    study.note(
        "tests and intervals take lesions for independent, which those of one scan are not wholly; "
        "p_holm is adjusted for all comparisons of this table"
    )


def _sphere_volumes(volumes: Sequence[float], wanted: float) -> str:
    """Says how large the spheres are, which are of whole voxels; "" without any."""
    if not volumes:
        return ""
    least, most = (f"{volume:.4g}" for volume in (min(volumes), max(volumes)))
    volume = least if least == most else f"{least} to {most}"
    nearest = "" if volume == f"{wanted:.4g}" else f", the whole voxels nearest to {wanted:g} mm³"
    return f"TN are spheres of {volume} mm³{nearest}; "


def _values(rows: Sequence[Row], channel: str, extreme: str) -> np.ndarray:
    return np.array([row[f"{channel}_{extreme}"] for row in rows], np.float64)


def _medians(groups: Mapping[str, Sequence[Row]], channels: Sequence[str]) -> Iterator[Row]:
    for channel, extreme, (kind, rows) in product(channels, EXTREMES, groups.items()):
        values = _values(rows, channel, extreme)
        low, high = median_interval(values) or (None, None)
        yield {
            "channel": channel,
            "extreme": extreme,
            "kind": kind,
            "n": len(values),
            "scans": len({row["scan"] for row in rows}),
            "median": float(np.median(values)) if len(values) else None,
            "low": low,
            "high": high,
        }


def _tests(groups: Mapping[str, Sequence[Row]], channels: Sequence[str]) -> list[Row]:
    """All pairs of kinds of which there are enough."""
    tested: list[Row] = []
    for channel, extreme, (first, second) in product(channels, EXTREMES, combinations(groups, 2)):
        one, other = (_values(groups[kind], channel, extreme) for kind in (first, second))
        found = difference(one, other)
        if found is None:
            continue
        tested.append(
            {
                "channel": channel,
                "extreme": extreme,
                "first": first,
                "second": second,
                "n_first": len(one),
                "n_second": len(other),
                "u": found.statistic,
                "p": found.p,
                "p_holm": None,
                "rank_biserial": found.rank_biserial,
                "first_larger": found.superiority,
            }
        )
    return with_holm(tested)


def draw(groups: Mapping[str, Sequence[Row]], channels: Sequence[str]) -> Figure:
    """The peaks of the maps, by kind of lesion and by channel."""
    scans = len({row["scan"] for rows in groups.values() for row in rows})
    figure = new_figure(
        5.2 * len(channels), 7.2, f"Peaks of the maps by kind, {counted(scans, 'scan')}"
    )
    axes = figure.subplots(len(EXTREMES), len(channels), squeeze=False, sharey="row")
    for (line, extreme), (column, channel) in product(enumerate(EXTREMES), enumerate(channels)):
        panel = axes[line, column]
        values = {kind: _values(rows, channel, extreme) for kind, rows in groups.items() if rows}
        style(panel, f"{channel}: {'largest' if extreme == 'max' else 'smallest'} value")
        draw_distribution(panel, values, UNITS)
    return figure


EXPERIMENT = Experiment(groups, SphereSettings)
