"""The findings of `detector` in brief, with intervals by patients."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from jaxsal.experiments.statistics import FEWEST_IN_GROUP, Pooled, area_under_roc, pooled
from jaxsal.metrics import f1_score, false_discovery_rate, true_positive_rate
from jaxsal.tables import Row

MODELS = ("p_true", "p_true_volume")
"""Columns of the table: probabilities by the maps and the volume, and by the volume alone."""

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
    "pruned": "figure of detection that pruning by p_true changes: f1, ppv (precision), tpr "
    "(sensitivity); of lesions of patients that regressions were not fitted on",
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
    """Areas under ROC curves, and what pruning changes."""
    areas = [area(rows, pair, measure) for pair in PAIRS for measure in measures(maps, pair, rows)]
    there = [row for row in rows if row[BY_REGION] is not None]
    if there:
        areas.append({**area(there, PAIRS[0], MODELS[0]), "measure": IN_REGIONS})
    return [*areas, *pruning(rows)]


def measures(maps: Sequence[str], pair: tuple[str, str], rows: Sequence[Row]) -> Iterator[str]:
    """What two kinds are told apart by."""
    yield from (f"{name}_{extreme}" for name in maps for extreme in ("max", "min"))
    if pair == PAIRS[0]:  # the volume of TN is given
        yield "volume_mm3"
        if any(row["fold"] is not None for row in rows):
            yield from MODELS
        if any(row[BY_REGION] is not None for row in rows):
            yield BY_REGION


def score(row: Row, measure: str) -> float:
    """What the first kind should have more of."""
    value: float = row[measure]
    return -value if measure.endswith("_min") else value


def scores(
    rows: Sequence[Row], pair: tuple[str, str], measure: str
) -> tuple[np.ndarray, list[str]]:
    """Scores, and 1 for those of the first kind (L, 2); and whose each is."""
    own = [row for row in rows if row["kind"] in pair and row[measure] is not None]
    values = [(score(row, measure), row["kind"] == pair[0]) for row in own]
    return np.array(values, np.float64).reshape(-1, 2), [row["subject"] for row in own]


def area(rows: Sequence[Row], pair: tuple[str, str], measure: str) -> Row:
    """The area under the ROC curve of a measure; none with fewer than five of a kind."""
    values, subjects = scores(rows, pair, measure)
    first = int(values[:, 1].sum())
    second = len(values) - first
    enough = min(first, second) >= FEWEST_IN_GROUP
    found = pooled(area_under_roc, values, subjects) if enough else Pooled(0, 0)
    return {
        "first": pair[0],
        "second": pair[1],
        "measure": measure,
        "n_first": first,
        "n_second": second,
        "patients": len(set(subjects)),
        "auc": found.value,
        "low": found.low,
        "high": found.high,
    }


def _precision(tp: Any, fp: Any, fn: Any) -> np.ndarray:
    return 1 - false_discovery_rate(tp, fp, fn)


_RATES: dict[str, Callable[..., np.ndarray]] = {
    "f1": f1_score,
    "ppv": _precision,
    "tpr": true_positive_rate,
}


def pruning(rows: Sequence[Row]) -> Iterator[Row]:
    """What changes as lesions below the thresholds are taken away; nothing without regressions.

    Of patients all of whose TP and FP were held out, with their FN. Those who have FN alone are
    among them: pruning changes nothing there, and without them TPR would be too high.
    """
    predicted = [row for row in rows if row["kind"] in ("TP", "FP")]
    untested = {row["subject"] for row in predicted if row["fold"] is None}
    if all(row["subject"] in untested for row in predicted):
        return
    used = ("TP", "FP", "FN")
    own = [r for r in rows if r["kind"] in used and r["subject"] not in untested]
    kinds = [[row["kind"] == kind for kind in used] for row in own]
    values = np.column_stack([np.array(kinds, float), [row["kept"] != 0 for row in own]])
    subjects = [row["subject"] for row in own]
    tp, fp, fn = values[:, :3].sum(axis=0)
    lost, removed = (values[values[:, 3] == 0, kind].sum() for kind in (0, 1))
    for name, rate in _RATES.items():

        def change(some: np.ndarray, rate: Callable[..., np.ndarray] = rate) -> float:
            return _after(some, rate) - float(rate(*some[:, :3].sum(axis=0)))

        found = pooled(change, values, subjects)
        yield {
            "pruned": name,
            "n_tp": int(tp),
            "n_fp": int(fp),
            "n_fn": int(fn),
            "patients": len(set(subjects)),
            "tp_lost": int(lost),
            "fp_removed": int(removed),
            "before": float(rate(tp, fp, fn)),
            "after": _after(values, rate),
            "change": found.value,
            "low": found.low,
            "high": found.high,
        }


def _after(values: np.ndarray, rate: Callable[..., np.ndarray]) -> float:
    """A rate of what is kept; TP that are not are missed."""
    kept = values[values[:, 3] > 0, :3].sum(axis=0)
    return float(rate(kept[0], kept[1], values[:, [0, 2]].sum() - kept[0]))
