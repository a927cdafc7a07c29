"""How alike two maps are: closed forms, SciPy, and scikit-image's SSIM."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from skimage.metrics import structural_similarity as skimage_ssim

from jaxsal.experiments.map_similarity import (
    correlation,
    correlation_of_ranks,
    relative_distance,
    structural_similarity,
)

RNG = np.random.default_rng(2)


def test_relative_distances_in_closed_form() -> None:
    one, other = np.array([3.0, 0, 4, 0]), np.array([0.0, 3, 0, 4])
    assert relative_distance(one, one) == 0
    assert relative_distance(one, other) == pytest.approx(math.sqrt(2))
    assert relative_distance(one, -one) == pytest.approx(2)
    assert relative_distance(one, 0 * one) == pytest.approx(math.sqrt(2))
    assert math.isnan(relative_distance(0 * one, 0 * one))


def test_correlations_are_scipy_s() -> None:
    one, other = RNG.standard_normal((2, 5, 6, 7))
    other[other < 0] = 0  # ties
    expected = stats.pearsonr(one.ravel(), other.ravel()).statistic
    assert correlation(one, other) == pytest.approx(expected)
    expected = stats.spearmanr(one.ravel(), other.ravel()).statistic
    assert correlation_of_ranks(one, other) == pytest.approx(expected)
    assert math.isnan(correlation_of_ranks(one, np.ones_like(one)))


@pytest.mark.parametrize(("shape", "window"), [((11, 9, 13), 7), ((20, 6, 8), 5), ((9, 9, 1), 1)])
def test_structural_similarity_is_scikit_image_s(shape: tuple[int, ...], window: int) -> None:
    one = RNG.standard_normal(shape)
    other = 0.5 * one + RNG.standard_normal(shape)
    first, second = (each / np.abs(each).max() for each in (one, other))
    found = structural_similarity(one, other)
    if window > 1:  # which scikit-image cannot do
        expected = skimage_ssim(first, second, win_size=window, data_range=2.0)
        assert found == pytest.approx(expected, rel=1e-9)  # both in float64
    assert structural_similarity(one, 3 * one) == pytest.approx(1)
    assert -1 <= found < 1
    assert math.isnan(structural_similarity(one, np.zeros(shape)))
