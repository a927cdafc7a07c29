"""Features of maps whose values are known by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from jaxsal.detector.features import MEASURES, feature_columns, map_features
from jaxsal.saliency.maps import Crop

SHAPE = (13, 9, 9)


def crop_of(values: np.ndarray) -> Crop:
    return Crop(values.astype(np.float32), (2, 1, 1), samples=1)


@pytest.fixture
def domain() -> np.ndarray:
    domain = np.zeros(SHAPE, bool)
    domain[6, 4, 4:6] = True
    return domain


def test_means_are_of_the_voxels_of_each_shell(domain: np.ndarray) -> None:
    """By the distance of each voxel to the two of the lesion, computed pair by pair."""
    spacing = (2.0, 1.0, 1.5)
    rng = np.random.default_rng(3)
    values = rng.standard_normal((8, 7, 7, 2)).astype(np.float32)
    dense = np.zeros((*SHAPE, 2))
    dense[2:10, 1:8, 1:8] = values
    at = np.argwhere(np.ones(SHAPE)) * spacing
    away = np.min([np.linalg.norm(at - p, axis=1) for p in np.argwhere(domain) * spacing], axis=0)
    away = away.reshape(SHAPE)
    for channel, found in enumerate(map_features(crop_of(values), domain, spacing)):
        assert set(found) == set(MEASURES)
        own = dense[..., channel]
        for low, high in ((0, 3), (3, 6), (6, 12)):
            expected = own[(away > low) & (away <= high)].mean()
            assert found[f"mean_to_{high}mm"] == pytest.approx(expected, rel=1e-5)  # float32 maps
        near = own[away <= 3]
        assert found["mean_inside"] == pytest.approx(own[domain].mean(), rel=1e-5)
        assert (found["max"], found["min"]) == (own.max(), own.min())
        assert found["positive_share"] == pytest.approx(own[own > 0].sum() / np.abs(own).sum())
        assert found["energy"] == pytest.approx((near**2).sum(), rel=1e-5)
        assert found["skewness"] == pytest.approx(stats.skew(near), rel=1e-5)
        assert found["kurtosis"] == pytest.approx(stats.kurtosis(near), rel=1e-5)
        counts = np.histogram(near, 16)[0]
        assert found["entropy"] == pytest.approx(stats.entropy(counts, base=2))


def test_a_map_beside_its_crop_is_zero(domain: np.ndarray) -> None:
    inside = np.zeros((8, 7, 7, 1))
    inside[4, 3, 3:5] = 2.0  # the lesion
    (found,) = map_features(crop_of(inside), domain, (1, 1, 1))
    tight = Crop(np.full((1, 1, 2, 1), 2, np.float32), (6, 4, 4), samples=1)
    (again,) = map_features(tight, domain, (1, 1, 1))
    shared = sorted(set(MEASURES) - {"min"})  # over the crop
    assert {name: found[name] for name in shared} == {name: again[name] for name in shared}
    assert (found["mean_inside"], found["mean_to_3mm"], found["energy"]) == (2, 0, 8)


def test_each_feature_has_a_column_that_says_what_it_is() -> None:
    columns = feature_columns(("flair", "t1"))
    assert len(columns) == 1 + 2 * len(MEASURES)
    assert columns["t1_kurtosis"].startswith("t1: fourth standardised moment")


def test_rounded_voxel_sizes_move_no_voxel(domain: np.ndarray) -> None:
    rng = np.random.default_rng(4)
    crop = crop_of(rng.standard_normal((8, 7, 7, 1)))
    assert map_features(crop, domain, (1, 1, 1.0000001)) == map_features(crop, domain, (1, 1, 1))
