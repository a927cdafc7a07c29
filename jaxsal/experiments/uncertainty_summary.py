"""The findings of `uncertainty` in brief, with intervals by patients."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np

from jaxsal.experiments.statistics import (
    FEWEST_IN_GROUP,
    Pooled,
    area_difference,
    area_under_roc,
    pooled,
)
from jaxsal.tables import Row

COMPARED = {
    "correlation": "Pearson's, of the map of an FN's candidate with that of the expert's mark",
    "peak_ratio": "largest value of the candidate's map over that of the mark's",
}

MEANINGS = {
    "lsu": "lesion structural uncertainty (LSU), 1 - mean IoU with the members' lesions",
    "entropy": "mean over the lesion of the predictive entropy",
}
"""Measures of a lesion's uncertainty."""

SUMMARY_COLUMNS = {
    "threshold": "least entropy of a candidate, nats: 0 is sure, 0.693 not at all",
    "missed": "number of missed lesions (FN)",
    "hit": "number of them with a candidate on them",
    "share": "of FN with a candidate on them; of figures over lesions, fewer than 5 have none",
    "low": "95 % confidence interval of the figure before it, by bootstrap over patients",
    "high": "its upper end",
    "candidates": "number of candidates",
    "false_per_scan": "candidates per scan that touch no true lesion",
    "false_low": "95 % confidence interval of it, by bootstrap over patients",
    "false_high": "its upper end",
    "measure": f"lsu: {MEANINGS['lsu']}; entropy: {MEANINGS['entropy']}; volume_mm3: what the size "
    "alone does, small for false",
    "n_tp": "number of TP",
    "n_fp": "number of FP",
    "patients": "number of patients",
    "median_tp": "median of TP",
    "median_fp": "median of FP",
    "auc": "probability that an FP is more uncertain, or smaller, than a TP; ties counted half",
    "than": "measure that it is compared with, of the same lesions",
    "difference": "by how much its auc is larger; each resample of patients is the same for both",
    "channel": "with respect to which the maps are",
    "figure": "what is compared of a candidate's map and the mark's",
    "n": "number of FN with a candidate",
    "median": "over these",
}

_SIZE = "volume_mm3"
_MEASURES = {"lsu": 1, "entropy": 1, _SIZE: -1}  # and whether FP are to have more or less


def at(threshold: float, rows: Sequence[Row]) -> Row:
    """The point of the FROC curve at a threshold."""
    own = [row for row in rows if row["threshold"] == threshold]
    hits = [(hit, row["subject"]) for row in own for hit in row["missed"].values()]
    share = pooled(np.mean, [hit for hit, _ in hits], [subject for _, subject in hits])
    false = pooled(np.mean, [row["false"] for row in own], [row["subject"] for row in own])
    return {
        "threshold": threshold,
        "missed": len(hits),
        "hit": sum(hit for hit, _ in hits),
        "share": share.value,
        "low": share.low,
        "high": share.high,
        "candidates": sum(row["candidates"] for row in own),
        "false_per_scan": float(np.mean([row["false"] for row in own])) if own else None,
        "false_low": false.low,
        "false_high": false.high,
    }


def separated(rows: Sequence[Row]) -> Iterator[Row]:
    """How far the uncertainty of false lesions exceeds that of true ones."""
    for measure, sign in _MEASURES.items():
        values, subjects = _scores(rows, measure)
        true, false = (values[values[:, 1] == kind, 0] for kind in (0, 1))
        area = pooled(area_under_roc, values, subjects) if _enough(values) else Pooled(0, 0)
        yield {
            "measure": measure,
            **_sizes(values, subjects),
            "median_tp": sign * float(np.median(true)) if len(true) else None,
            "median_fp": sign * float(np.median(false)) if len(false) else None,
            "auc": area.value,
            "low": area.low,
            "high": area.high,
        }


def beyond_volume(rows: Sequence[Row]) -> Iterator[Row]:
    """How much more of false lesions the uncertainty tells than the size does."""
    for measure in _MEASURES:
        if measure == _SIZE:
            continue
        values, subjects = _scores(rows, measure, _SIZE)
        found = pooled(area_difference, values, subjects) if _enough(values) else Pooled(0, 0)
        yield {
            "measure": measure,
            "than": _SIZE,
            **_sizes(values, subjects),
            "difference": found.value,
            "low": found.low,
            "high": found.high,
        }


def _scores(rows: Sequence[Row], *measures: str) -> tuple[np.ndarray, list[str]]:
    """What FP should have more of, and 1 for FP (L, M + 1); and whose each lesion is."""
    found = [row for row in rows if row["kind"] in ("TP", "FP")]
    signs = [(each, _MEASURES[each]) for each in measures]
    values = [(*(sign * row[each] for each, sign in signs), row["kind"] == "FP") for row in found]
    subjects = [row["subject"] for row in found]
    return np.array(values, np.float64).reshape(-1, len(measures) + 1), subjects


def _sizes(values: np.ndarray, subjects: Sequence[str]) -> Row:
    false = int(values[:, -1].sum())
    return {"n_tp": len(values) - false, "n_fp": false, "patients": len(set(subjects))}


def _enough(values: np.ndarray) -> bool:
    """Whether there are enough of both kinds."""
    false = int(values[:, -1].sum())
    return min(false, len(values) - false) >= FEWEST_IN_GROUP


def alike(rows: Sequence[Row], channels: Sequence[str]) -> Iterator[Row]:
    """How much maps of candidates are like those of marks."""
    for channel, figure in product(channels, COMPARED):
        key = f"{channel}_{figure}"
        own: list[Mapping[str, Any]] = [row for row in rows if row[key] is not None]
        subjects = [row["subject"] for row in own]
        found = pooled(np.median, [row[key] for row in own], subjects)
        yield {
            "channel": channel,
            "figure": figure,
            "n": found.n,
            "patients": found.patients,
            "median": found.value,
            "low": found.low,
            "high": found.high,
        }
