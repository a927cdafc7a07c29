"""Confidence intervals over scans, against the normal approximation and by hand."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest

from jaxsal.evaluation.intervals import (
    FEWEST_SCANS,
    mean_over_scans,
    rate_over_scans,
    statistic_over_patients,
)
from jaxsal.metrics import true_positive_rate


def test_an_interval_is_that_of_resampled_scans() -> None:
    values = np.random.default_rng(3).normal(0.7, 0.1, 40)
    found = mean_over_scans([*values, math.nan])
    assert (found.value, found.scans) == (pytest.approx(values.mean()), 40)
    low, high = found.interval
    error = values.std(ddof=1) / np.sqrt(40)  # of a mean of many, nearly normal
    np.testing.assert_allclose(
        [low, high], values.mean() + np.array([-1, 1]) * 1.96 * error, rtol=0.01
    )
    assert mean_over_scans(values) == mean_over_scans(values)


def test_scans_are_resampled_not_lesions() -> None:
    alike = rate_over_scans(true_positive_rate, [(50, 0, 50)] * 10)
    assert (alike.value, alike.interval, alike.scans) == (0.5, (0.5, 0.5), 10)
    apart = rate_over_scans(true_positive_rate, [(100, 0, 0), (0, 0, 100)] * 5)
    assert apart.value == 0.5
    # binomial: 0.5 ± 1.96 · 0.5 / √10, in steps of a tenth
    np.testing.assert_allclose(apart.interval, (0.2, 0.8), atol=0.1)
    heavy = rate_over_scans(true_positive_rate, [(0, 0, 90), (10, 0, 0), (10, 0, 0)])
    assert heavy.value == 20 / 110


def test_what_is_too_little_gets_no_interval() -> None:
    assert mean_over_scans([0.5] * (FEWEST_SCANS - 1)).interval is None
    assert mean_over_scans([0.5] * FEWEST_SCANS).interval == (0.5, 0.5)
    nothing = mean_over_scans([math.nan] * 5)
    assert math.isnan(nothing.value)
    assert (nothing.interval, nothing.scans) == (None, 0)
    # resampled cohorts may hold no lesion at all
    assert rate_over_scans(true_positive_rate, [(1, 0, 1), (0, 0, 0), (0, 0, 0)]).interval is None


def test_figures_of_lesions_resample_patients_with_all_their_lesions() -> None:
    rng = np.random.default_rng(0)
    owners = np.repeat(list("abc"), [4, 1, 7])
    values = rng.standard_normal(12)
    found = statistic_over_patients(np.median, values, owners.tolist())
    # Of three patients there are 27 resamples, equally likely: the ends are beyond the first.
    every = [
        np.median(np.concatenate([values[owners == name] for name in drawn]))
        for drawn in product("abc", repeat=3)
    ]
    assert found.value == np.median(values)
    assert (found.interval, found.scans) == ((min(every), max(every)), 3)
    many = rng.permutation(np.repeat(np.arange(30), 5)).astype(str).tolist()
    counts = np.stack([rng.integers(0, 9, 150), rng.integers(1, 9, 150)], axis=1)
    own = statistic_over_patients(lambda v: v[:, 0].sum() / v.sum(), counts, many)
    sums = [counts[np.array(many) == name].sum(0) for name in sorted(set(many))]
    same = rate_over_scans(lambda one, other: one / (one + other), sums)
    assert own.value == pytest.approx(same.value)
    np.testing.assert_allclose(own.interval, same.interval, atol=0.003)  # of 9999 resamples


def test_figures_of_lesions_that_are_not_defined_get_no_interval() -> None:
    three = ["a", "b", "c"]
    apart = statistic_over_patients(lambda v: np.nan if np.ptp(v) == 0 else 1.0, [1, 2, 3], three)
    assert (apart.value, apart.interval) == (1, None)
    assert statistic_over_patients(np.median, [1.0, 2], three[:2]).interval is None
    nothing = statistic_over_patients(np.median, [], [])
    assert (math.isnan(nothing.value), nothing.scans) == (True, 0)
