"""Medians from counts, against NumPy and SciPy on the values themselves."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from jaxsal.experiments.magnitudes import PRECISION, Magnitudes, interval_over_scans


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


def test_scans_are_resampled_whole() -> None:
    # Each scan holds one value many times: the median of a resample is a scan's value.
    levels = [1.0, 2.0, 4.0, 8.0, 16.0]
    scans = [counted(np.full(100, level)).coarse() for level in levels]
    medians = stats.bootstrap(
        (np.array(levels),), np.median, method="percentile", n_resamples=5000, rng=0
    ).confidence_interval
    assert interval_over_scans(scans) == pytest.approx(tuple(medians), rel=0.005)


def test_a_scan_s_weight_is_its_number_of_values() -> None:
    scans = [counted(np.full(1, 1.0)).coarse()] * 2 + [counted(np.full(1000, 5.0)).coarse()] * 4
    assert interval_over_scans(scans) == pytest.approx((5, 5), rel=0.005)


def test_few_scans_give_no_interval() -> None:
    assert interval_over_scans([counted(values(100)).coarse()] * 2) is None
    assert interval_over_scans([Magnitudes().coarse()] * 4) is None
