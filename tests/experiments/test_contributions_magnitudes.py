"""Medians from counts, against NumPy and SciPy on the values themselves."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from jaxsal.experiments.contributions_magnitudes import (
    PRECISION,
    Magnitudes,
    interval_over_subjects,
    together,
)


def counted(*parts: np.ndarray) -> Magnitudes:
    magnitudes = Magnitudes()
    for part in parts:
        magnitudes.add(part.astype(np.float32))
    return magnitudes


def values(count: int, seed: int = 0, scale: float = 1.0) -> np.ndarray:
    drawn = np.random.default_rng(seed).lognormal(0, 1, count)
    return (scale * drawn).astype(np.float32)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e5])
@pytest.mark.parametrize("count", [1, 2, 7, 1000])
def test_median_and_interval_are_those_of_the_values(count: int, scale: float) -> None:
    sample = values(count, scale=scale)
    found = counted(sample[: count // 2], sample[count // 2 :])
    assert found.count == count
    assert found.median == pytest.approx(np.median(sample), rel=2 * PRECISION)
    assert found.largest == pytest.approx(sample.max(), rel=2 * PRECISION)
    expected = stats.quantile_test(sample).confidence_interval()
    if np.isnan(expected.low) or np.isnan(expected.high):
        assert found.interval is None
    else:
        assert found.interval == pytest.approx(tuple(expected), rel=2 * PRECISION)


def test_nothing_has_neither_median_nor_interval() -> None:
    nothing = Magnitudes()
    assert np.isnan(nothing.median)
    assert (nothing.interval, nothing.largest, nothing.count) == (None, 0.0, 0)


def test_merged_counts_are_those_of_all_values() -> None:
    first, second = values(50, seed=1), values(70, seed=2)
    merged = counted(first)
    merged.merge(counted(second))
    assert merged.median == counted(first, second).median
    edges = np.array([0.0, 0.5, 1.0, 100.0])
    expected = np.histogram(np.concatenate([first, second]), edges)[0]
    np.testing.assert_array_equal(merged.histogram(edges), expected)


def test_subjects_are_resampled_whole() -> None:
    # Each subject holds one value many times: the median of a resample is a subject's value.
    levels = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0]
    subjects = [counted(np.full(100, level)).coarse() for level in levels]
    medians = stats.bootstrap(
        (np.array(levels),), np.median, method="percentile", n_resamples=5000, rng=0
    ).confidence_interval
    assert interval_over_subjects(subjects) == pytest.approx(tuple(medians), rel=0.016)


def test_a_subject_s_weight_is_its_number_of_values() -> None:
    few, many = counted(np.full(1, 1.0)).coarse(), counted(np.full(1000, 5.0)).coarse()
    assert interval_over_subjects([few] * 2 + [many] * 4) == pytest.approx((5, 5), rel=0.016)


def test_an_interval_may_be_narrower_than_a_class() -> None:
    samples = [values(400, seed) for seed in range(150)]
    rng = np.random.default_rng(1)
    pooled = [
        np.median(np.concatenate([samples[i] for i in rng.integers(0, 150, 150)]))
        for _ in range(400)
    ]
    expected = tuple(np.quantile(pooled, [0.025, 0.975]))
    assert 0 < expected[1] / expected[0] - 1 < 0.03
    found = interval_over_subjects([counted(sample).coarse() for sample in samples])
    assert found == pytest.approx(expected, rel=0.002)


@pytest.mark.parametrize("number", [2, 5, 6])
def test_six_subjects_give_an_interval(number: int) -> None:
    subjects = [counted(values(100, seed)).coarse() for seed in range(number)]
    assert (interval_over_subjects(subjects) is not None) == (number == 6)


def test_no_values_give_no_interval() -> None:
    assert interval_over_subjects([Magnitudes().coarse()] * 8) is None


def test_counts_of_sessions_are_those_of_all_their_values() -> None:
    one, other = values(300, seed=1), values(200, seed=2, scale=3)
    found = together(counted(one).coarse(), counted(other).coarse())
    for mine, expected in zip(found, counted(one, other).coarse(), strict=True):
        np.testing.assert_array_equal(mine, expected)
        assert mine.dtype == expected.dtype
