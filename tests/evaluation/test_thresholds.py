"""Thresholds to choose from, and the choice."""

from __future__ import annotations

from jaxsal.evaluation.thresholds import best_threshold, thresholds_between


def test_thresholds_are_the_decimal_ones() -> None:
    expected = [0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5]
    assert thresholds_between(0.1, 0.5) == expected
    assert thresholds_between(0.3, 0.3) == [0.3]
    assert thresholds_between(0.1, 0.4, 0.2) == [0.1, 0.3]


def test_of_equally_good_thresholds_the_lowest_is_best() -> None:
    means = {0.2: 0.1 + 0.2, 0.1: 0.25, 0.4: 0.3, 0.3: 0.3}
    assert best_threshold({t: {"ndsc": mean} for t, mean in means.items()}) == 0.2
