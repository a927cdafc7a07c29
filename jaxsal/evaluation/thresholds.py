"""Thresholds to choose a network's from, and which of them suits it best."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from jaxsal.errors import InputError
from jaxsal.metrics import LesionCounts

if TYPE_CHECKING:
    from jaxsal.evaluation.scans import Evaluation, Scores

_MOST_THRESHOLDS = 1000


def thresholds_between(low: float, high: float, step: float = 0.05) -> list[float]:
    """Thresholds from low to high, both included if a whole number of steps lies between them.

    Raises:
        InputError: they are no probabilities in this order, or the step is not positive.
    """
    if not 0 < low <= high < 1 or not 0 < step < math.inf:
        raise InputError(
            "thresholds are probabilities, more than 0 and less than 1, from low to high by a "
            f"positive step; got {low:g}, {high:g} and a step of {step:g}"
        )
    steps = (high - low) / step
    if steps >= _MOST_THRESHOLDS:
        raise InputError(f"{steps:.0f} steps of {step:g} are too many; give a larger step")
    # The margin and the rounding absorb that 0.1 + 8 · 0.05 is not 0.5 in binary.
    return [round(low + i * step, 10) for i in range(math.floor(steps + 1e-6) + 1)]


def tuning_curve(
    evaluations: Sequence[Evaluation], thresholds: Sequence[float]
) -> dict[float, dict[str, float]]:
    """The figures at each threshold, over the scans that did not fail.

    Args:
        evaluations: of the scans, at these thresholds.
        thresholds: that were tried.

    Returns:
        By threshold the means over scans of "dice" and "ndsc", and the lesion-wise rates of all
        lesions together.
    """
    done = [each.scores for each in evaluations if each.scores]
    return {t: _at_a_threshold([scores[t] for scores in done]) for t in thresholds if done}


def _at_a_threshold(scores: Sequence[Scores]) -> dict[str, float]:
    tp, fp, fn = (
        sum(getattr(each.lesions, kind) for each in scores) for kind in ("tp", "fp", "fn")
    )
    return {
        "dice": float(np.mean([each.dice for each in scores])),
        "ndsc": float(np.mean([each.normalised_dice for each in scores])),
        **LesionCounts(tp, fp, fn).rates(),
    }


def best_threshold(curve: Mapping[float, Mapping[str, float]]) -> float:
    """The threshold with the best mean normalised Dice; of equally good ones the lowest."""
    best = max(figures["ndsc"] for figures in curve.values())
    return min(t for t, f in curve.items() if math.isclose(f["ndsc"], best, rel_tol=1e-12))
