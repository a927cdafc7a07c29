"""The findings of `detector` in brief, with intervals by patients."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from jaxsal.experiments.detector_pruning import MODELS, pruning
from jaxsal.experiments.statistics import (
    FEWEST_IN_GROUP,
    Pooled,
    area_difference,
    area_under_roc,
    pooled,
)
from jaxsal.tables import Row

VOLUME = "volume_mm3"
"""Column of the table: what the size alone tells."""

BY_REGION = "p_true_region"
"""Column of the table: the probability by lesions of the same region."""

IN_REGIONS = "p_true_where_regions"
"""In the summary: p_true of the lesions that have `BY_REGION`, to set beside it."""

PAIRS = (("TP", "FP"), ("FN", "TN"))

SUMMARY_COLUMNS = {
    "first": "kind that should have more",
    "second": "kind that it is told from",
    "measure": "a peak: max, of the map's largest value, min, of its smallest by its negative; the "
    "volume; or the probability that a regression on other patients gives: p_true_region, one per "
    "region, is to be set beside p_true_where_regions, one for all, of the same lesions",
    "n_first": "number of the first",
    "n_second": "number of the second",
    "patients": "number of patients",
    "auc": "area under the ROC curve: probability that one of the first has more than one of the "
    "second, ties counted half",
    "low": "95 % confidence interval of the figure before it, by bootstrap over patients",
    "high": "its upper end",
    "than": "what the measure, or pruning, is compared with, of the same lesions; volume_mm3: the "
    "size itself, which needs no fit; p_true_volume: a regression on it, which may rank worse, as "
    "each fold has a regression of its own: maps that tell more than the size exceed both",
    "difference": "by how much its area, or the figure after pruning, is larger; each resample of "
    "patients is the same for both",
    "pruned": "figure of detection that pruning changes: f1, ppv (precision), tpr (sensitivity); "
    "of lesions of patients that regressions were not fitted on",
    "by": "the regression that prunes: p_true, on maps and volume; p_true_volume, on the volume",
    "n_tp": "number of TP before",
    "n_fp": "number of FP before",
    "n_fn": "number of FN before",
    "tp_lost": "number of TP that are pruned",
    "fp_removed": "number of FP that are pruned",
    "before": "the figure",
    "after": "the figure after pruning",
    "change": "after less before",
}


def summary_of(rows: Sequence[Row], maps: Sequence[str]) -> list[Row]:
    """Areas under ROC curves, how far they are apart, and what pruning changes."""
    areas = [area(rows, pair, measure) for pair in PAIRS for measure in measures(maps, pair, rows)]
    there = [row for row in rows if row[BY_REGION] is not None]
    if there:
        areas.append({**area(there, PAIRS[0], MODELS[0]), "measure": IN_REGIONS})
    return [*areas, *differences(rows, maps), *pruning(rows)]


def measures(maps: Sequence[str], pair: tuple[str, str], rows: Sequence[Row]) -> Iterator[str]:
    """What two kinds are told apart by."""
    yield from _peaks(maps)
    if pair == PAIRS[0]:  # the volume of TN is given
        yield VOLUME
        if any(row["fold"] is not None for row in rows):
            yield from MODELS
        if any(row[BY_REGION] is not None for row in rows):
            yield BY_REGION


def _peaks(maps: Sequence[str]) -> Iterator[str]:
    yield from (f"{name}_{extreme}" for name in maps for extreme in ("max", "min"))


def score(row: Row, measure: str) -> float:
    """What the first kind should have more of."""
    value: float = row[measure]
    return -value if measure.endswith("_min") else value


def scores(
    rows: Sequence[Row], pair: tuple[str, str], *measures: str
) -> tuple[np.ndarray, list[str]]:
    """Scores by each measure, and 1 for those of the first kind (L, M + 1); and whose each is.

    Of lesions that have all of the measures.
    """
    own = [r for r in rows if r["kind"] in pair and all(r[each] is not None for each in measures)]
    values = [(*(score(r, each) for each in measures), r["kind"] == pair[0]) for r in own]
    return np.array(values, np.float64).reshape(-1, len(measures) + 1), [r["subject"] for r in own]


def area(rows: Sequence[Row], pair: tuple[str, str], measure: str) -> Row:
    """The area under the ROC curve of a measure; none with fewer than five of a kind."""
    values, subjects = scores(rows, pair, measure)
    found = pooled(area_under_roc, values, subjects) if _enough(values) else Pooled(0, 0)
    return {
        "first": pair[0],
        "second": pair[1],
        "measure": measure,
        **_sizes(values, subjects),
        "auc": found.value,
        "low": found.low,
        "high": found.high,
    }


def difference(rows: Sequence[Row], pair: tuple[str, str], measure: str, than: str) -> Row:
    """By how much a measure's area exceeds another's, over the lesions that have both."""
    values, subjects = scores(rows, pair, measure, than)
    found = pooled(area_difference, values, subjects) if _enough(values) else Pooled(0, 0)
    return {
        "first": pair[0],
        "second": pair[1],
        "measure": measure,
        "than": than,
        **_sizes(values, subjects),
        "difference": found.value,
        "low": found.low,
        "high": found.high,
    }


def differences(rows: Sequence[Row], maps: Sequence[str]) -> Iterator[Row]:
    """What maps tell beyond the size, and models of regions beyond one for all, of TP and FP."""
    there = set(measures(maps, PAIRS[0], rows))
    compared = [(measure, VOLUME) for measure in (*_peaks(maps), MODELS[0])]
    compared += [MODELS, (BY_REGION, MODELS[0])]
    for measure, than in compared:
        if {measure, than} <= there:
            yield difference(rows, PAIRS[0], measure, than)


def _enough(values: np.ndarray) -> bool:
    """Whether there are enough of both kinds."""
    first = int(values[:, -1].sum())
    return min(first, len(values) - first) >= FEWEST_IN_GROUP


def _sizes(values: np.ndarray, subjects: Sequence[str]) -> Row:
    first = int(values[:, -1].sum())
    return {
        "n_first": first,
        "n_second": len(values) - first,
        "patients": len(set(subjects)),
    }
