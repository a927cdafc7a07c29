"""What detection gains as lesions are pruned that a regression takes for false."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from jaxsal.experiments.statistics import pooled
from jaxsal.metrics import f1_score, false_discovery_rate, true_positive_rate
from jaxsal.tables import Row

MODELS = ("p_true", "p_true_volume")
"""Columns of the table: probabilities by the maps and the volume, and by the volume alone."""

KEPT = ("kept", "kept_volume")
"""Columns of the table: whether these reach the thresholds."""

_USED = ("TP", "FP", "FN")

Rate = Callable[..., np.ndarray]


def _precision(tp: Any, fp: Any, fn: Any) -> np.ndarray:
    return 1 - false_discovery_rate(tp, fp, fn)


_RATES: dict[str, Rate] = {"f1": f1_score, "ppv": _precision, "tpr": true_positive_rate}


def pruning(rows: Sequence[Row]) -> Iterator[Row]:
    """What changes as lesions below the thresholds are taken away; nothing without regressions.

    By either regression, then by how much more it changes by that on the maps, too.

    Of patients all of whose TP and FP were held out, with their FN. Those who have FN alone are
    among them: pruning changes nothing there, and without them TPR would be too high.
    """
    predicted = [row for row in rows if row["kind"] in ("TP", "FP")]
    untested = {row["subject"] for row in predicted if row["fold"] is None}
    if all(row["subject"] in untested for row in predicted):
        return
    own = [r for r in rows if r["kind"] in _USED and r["subject"] not in untested]
    subjects = [row["subject"] for row in own]
    for at, model in enumerate(MODELS):
        for name, rate in _RATES.items():
            yield {"pruned": name, "by": model} | _pruned(_table(own, KEPT[at]), subjects, rate)
    both = _table(own, *KEPT)
    for name, rate in _RATES.items():
        row = {"pruned": name, "by": MODELS[0], "than": MODELS[1]}
        yield row | _compared(both, subjects, rate)


def _table(rows: Sequence[Row], *kept: str) -> np.ndarray:
    """Of each lesion 1 or 0 (L, 3 + M): whether it is TP, FP, FN, and kept; FN always are."""
    kinds = [[row["kind"] == kind for kind in _USED] for row in rows]
    return np.column_stack([kinds, [[row[each] != 0 for each in kept] for row in rows]]).astype(
        np.float64
    )


def _sizes(values: np.ndarray, subjects: Sequence[str]) -> Row:
    tp, fp, fn = values[:, :3].sum(axis=0)
    return {"n_tp": int(tp), "n_fp": int(fp), "n_fn": int(fn), "patients": len(set(subjects))}


def _pruned(values: np.ndarray, subjects: Sequence[str], rate: Rate) -> Row:
    """A rate before and after."""
    lost, removed = (values[values[:, 3] == 0, kind].sum() for kind in (0, 1))
    found = pooled(lambda some: _after(some, 3, rate) - _before(some, rate), values, subjects)
    return {
        **_sizes(values, subjects),
        "tp_lost": int(lost),
        "fp_removed": int(removed),
        "before": _before(values, rate),
        "after": _after(values, 3, rate),
        "change": found.value,
        "low": found.low,
        "high": found.high,
    }


def _compared(values: np.ndarray, subjects: Sequence[str], rate: Rate) -> Row:
    """By how much a rate is higher after the one pruning than after the other."""
    found = pooled(partial(_difference, rate=rate), values, subjects)
    return {
        **_sizes(values, subjects),
        "difference": found.value,
        "low": found.low,
        "high": found.high,
    }


def _difference(values: np.ndarray, rate: Rate) -> float:
    return _after(values, 3, rate) - _after(values, 4, rate)


def _before(values: np.ndarray, rate: Rate) -> float:
    return float(rate(*values[:, :3].sum(axis=0)))


def _after(values: np.ndarray, column: int, rate: Rate) -> float:
    """A rate of what is kept by a column; TP that are not are missed."""
    kept = values[values[:, column] > 0, :3].sum(axis=0)
    return float(rate(kept[0], kept[1], values[:, [0, 2]].sum() - kept[0]))
