"""The figures of a cohort: means over its scans, and rates of all lesions together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from jaxsal.evaluation.intervals import IntervalEstimate, mean_over_scans, rate_over_scans
from jaxsal.metrics import LESION_RATES

if TYPE_CHECKING:
    from jaxsal.evaluation.scans import Scores


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
