"""Means and rates over scans, with confidence intervals by the bootstrap."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

from jaxsal.metrics import LESION_RATES

if TYPE_CHECKING:
    from jaxsal.evaluation.scans import Scores

FEWEST_SCANS = 3
"""Scans that an interval needs: resampling fewer is of no use."""

_CONFIDENCE = 0.95
_RESAMPLES = 9999
_SEED = 0  # the same figures give the same interval


@dataclass(frozen=True)
class IntervalEstimate:
    """A figure of a sample of scans.

    Attributes:
        value: NaN if it is not defined.
        interval: 95 % confidence interval; None if there are fewer scans than `FEWEST_SCANS`, or
            the figure is not defined for some of the resampled cohorts.
        scans: how many it comes from.
    """

    value: float
    interval: tuple[float, float] | None
    scans: int


def mean_over_scans(values: Sequence[float]) -> IntervalEstimate:
    """Mean of a figure of each scan; scans of which it is NaN, that is not defined, are left out.

    The interval is the bootstrap's percentile interval (Efron 1979), resampling scans.
    """
    defined = np.asarray(values, np.float64)
    defined = defined[~np.isnan(defined)]
    if not len(defined):
        return IntervalEstimate(np.nan, None, 0)
    return IntervalEstimate(float(defined.mean()), _interval((defined,), np.mean), len(defined))


def rate_over_scans(
    rate: Callable[..., np.ndarray], counts: Sequence[Sequence[int]]
) -> IntervalEstimate:
    """Rate of all scans' lesions taken together, in which scans count by their lesions.

    The interval is the bootstrap's percentile interval, resampling scans, not lesions: those of
    one scan are found or missed together.

    Args:
        rate: of sums of counts, such as `jaxsal.metrics.true_positive_rate`.
        counts: (scans, kinds of count), as `rate` takes them.
    """
    columns = tuple(np.asarray(counts, np.int64).T)

    def pooled(*samples: np.ndarray, axis: int = -1) -> np.ndarray:
        return rate(*(sample.sum(axis=axis) for sample in samples))

    return IntervalEstimate(float(pooled(*columns)), _interval(columns, pooled), len(counts))


def statistic_over_patients(
    statistic: Callable[[np.ndarray], float], values: np.ndarray, patients: Sequence[str]
) -> IntervalEstimate:
    """A figure of all patients' lesions together, such as a median or a correlation.

    The interval is the bootstrap's percentile interval (Efron 1979), resampling patients, each
    with all its lesions: those of one patient resemble each other (cluster bootstrap; Davison and
    Hinkley, "Bootstrap Methods and their Application", 1997, section 3.8).

    Args:
        statistic: from what is known of some lesions (L, ...) to the figure; NaN: not defined.
        values: (L, ...) of each lesion.
        patients: whose each lesion is (L,).
    """
    array, names = np.asarray(values), sorted(set(patients))
    if not names:
        return IntervalEstimate(np.nan, None, 0)
    value = float(statistic(array))
    if len(names) < FEWEST_SCANS or np.isnan(value):
        return IntervalEstimate(value, None, len(names))
    rows = [np.flatnonzero(np.asarray(patients) == name) for name in names]
    drawn = np.random.default_rng(_SEED).integers(len(names), size=(_RESAMPLES, len(names)))
    kinds, times = np.unique(np.sort(drawn, axis=1), axis=0, return_counts=True)
    found = [statistic(array[np.concatenate([rows[i] for i in kind])]) for kind in kinds]
    if not np.isfinite(found).all():
        return IntervalEstimate(value, None, len(names))
    ends = [(1 - _CONFIDENCE) / 2, (1 + _CONFIDENCE) / 2]
    low, high = np.quantile(np.repeat(found, times), ends).tolist()
    return IntervalEstimate(value, (low, high), len(names))


def _interval(
    samples: tuple[np.ndarray, ...], statistic: Callable[..., Any]
) -> tuple[float, float] | None:
    if len(samples[0]) < FEWEST_SCANS:
        return None
    with warnings.catch_warnings():  # of resamples for which the figure is not defined
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        found = stats.bootstrap(
            samples,
            statistic,
            paired=True,
            vectorized=True,
            n_resamples=_RESAMPLES,
            batch=256,
            confidence_level=_CONFIDENCE,
            method="percentile",
            random_state=np.random.default_rng(_SEED),
        ).confidence_interval
    low, high = float(found.low), float(found.high)
    return (low, high) if np.isfinite([low, high]).all() else None


def averages(scores: Sequence[Scores]) -> dict[str, IntervalEstimate]:
    """Mean over scans of each of `Scores.figures`, at one threshold."""
    figures = [each.figures() for each in scores]
    return {
        name: mean_over_scans([each[name] for each in figures])
        for name in ("dice", "ndsc", *LESION_RATES)
    }


def pooled(scores: Sequence[Scores]) -> dict[str, IntervalEstimate]:
    """Lesion-wise rates of all scans' lesions taken together, as the paper's; at one threshold."""
    counts = [(each.lesions.tp, each.lesions.fp, each.lesions.fn) for each in scores]
    return {name: rate_over_scans(rate, counts) for name, rate in LESION_RATES.items()}
