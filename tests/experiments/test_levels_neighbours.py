"""Nearest lesions and values of maps at them, against brute force."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from jaxsal.experiments.levels_neighbours import nearest, values_at, voxels_of
from jaxsal.lesions import components
from jaxsal.saliency.maps import Crop

SPACING = (1.0, 0.8, 2.5)


@pytest.mark.parametrize("seed", range(3))
def test_the_nearest_lesion_is_that_by_brute_force(seed: int) -> None:
    mask = np.random.default_rng(seed).random((16, 15, 12)) < 0.06
    labels = 3 * components(mask, 1.0, 0.0)  # labels need not be contiguous
    lesions = voxels_of(labels)
    assert set(lesions) == set(np.unique(labels)) - {0}
    found = nearest(lesions, SPACING)
    places = {label: np.argwhere(labels == label) * SPACING for label in lesions}
    for label, neighbour in found.items():
        gaps = {o: cdist(places[label], places[o]).min() for o in lesions if o != label}
        assert neighbour.gap == pytest.approx(min(gaps.values()))
        assert gaps[neighbour.label] == pytest.approx(neighbour.gap)


def test_one_lesion_or_none_has_no_neighbour() -> None:
    labels = np.zeros((5, 5, 5), np.int32)
    assert voxels_of(labels) == {}
    labels[1:3, 1:3, 1:3] = 4
    assert nearest(voxels_of(labels), SPACING) == {}


def test_values_outside_a_crop_are_zero() -> None:
    crop = Crop(np.arange(16, dtype=np.float32).reshape(2, 2, 2, 2), (1, 0, 3), 1)
    voxels = np.array([[1, 0, 3], [2, 1, 4], [0, 0, 3], [1, 0, 2], [3, 0, 3]])
    np.testing.assert_array_equal(
        values_at(crop, voxels), [[0, 1], [14, 15], [0, 0], [0, 0], [0, 0]]
    )
