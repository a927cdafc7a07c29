"""Tests and intervals, against worked examples and SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from jaxsal.experiments.statistics import (
    FEWEST_IN_GROUP as FEWEST,
)
from jaxsal.experiments.statistics import (
    difference,
    few_patients,
    holm,
    median,
    median_interval,
    rank_correlation,
    spearman_test,
    with_holm,
)

RNG = np.random.default_rng(3)


def test_superiority_counts_pairs_and_ties_by_half() -> None:
    first, second = np.array([1.0, 2, 3, 4, 9]), np.array([2.0, 2, 0, 5, 4, 1])
    found = difference(first, second)
    assert found is not None
    pairs = np.sign(first[:, None] - second[None, :])
    assert found.superiority == pytest.approx((pairs > 0).mean() + (pairs == 0).mean() / 2)
    assert found.rank_biserial == pytest.approx(pairs.mean())
    assert found.p == stats.mannwhitneyu(second, first).pvalue


def test_too_few_values_are_not_tested() -> None:
    assert difference(np.arange(FEWEST - 1.0), np.arange(20.0)) is None
    assert difference(np.arange(20.0), np.array([])) is None
    assert difference(np.arange(float(FEWEST)), np.arange(float(FEWEST)) + 10) is not None
    assert spearman_test(np.arange(FEWEST - 1.0), np.arange(FEWEST - 1.0)) is None
    assert spearman_test(np.ones(20), np.arange(20.0)) is None


def test_holm_s_worked_example() -> None:
    # The smallest of four counts four times, the next three times; none below one before it.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]) == [1, 1]
    assert holm([]) == []


def test_comparisons_are_adjusted_for_those_that_are_tested() -> None:
    rows = [{"p": 0.01, "p_holm": None, "n": 9}, {"p": None, "n": 2}, {"p": 0.04, "n": 9}]
    adjusted = with_holm(rows)
    assert [row["p_holm"] for row in adjusted] == [0.02, None, 0.04]
    assert list(adjusted[0]) == ["p", "p_holm", "n"]  # columns stay in their order
    assert with_holm([]) == []


def test_intervals_of_medians_need_six_values() -> None:
    assert median_interval([]) is None
    assert median_interval(np.arange(5.0)) is None
    assert median_interval(np.arange(6.0)) == (0, 5)
    # Hand-worked: of nine values ranks 2 and 8 enclose the median in 96.1 % of samples.
    assert median_interval(np.arange(1.0, 10)) == (2, 8)


def test_correlation_of_ranks() -> None:
    grows = np.stack([np.arange(6.0), np.arange(6.0) ** 3], -1)
    assert rank_correlation(grows) == pytest.approx(1)
    turned = np.stack([np.arange(5.0), [1.0, 0, 2, 3, 4]], -1)
    assert rank_correlation(turned) == pytest.approx(0.9)
    assert np.isnan(rank_correlation(np.stack([np.ones(20), np.arange(20.0)], -1)))
    tied = RNG.integers(0, 4, (30, 2)).astype(float)
    found = stats.spearmanr(*tied.T)
    assert rank_correlation(tied) == pytest.approx(found.statistic)
    assert spearman_test(*tied.T) == pytest.approx((found.statistic, found.pvalue))


@pytest.mark.parametrize("count", [1, 2, 7, 8])
def test_the_median_is_numpy_s(count: int) -> None:
    values = RNG.normal(size=count)
    assert median(values) == np.median(values)


def test_few_patients_are_told_unless_there_are_none_at_all() -> None:
    assert [bool(few_patients(count)) for count in (0, 1, 5, 6)] == [False, True, True, False]
