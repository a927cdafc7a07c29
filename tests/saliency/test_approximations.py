"""Approximations of the signed maximum are what they say; leaving nothing out, they are exact."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.peers import NETWORKS, ROI, autograd_rows, converted
from helpers.thorough import thorough_except

from jaxsal import InputError, sliding_window, smoothgrad
from jaxsal.saliency.items import stratified

pytestmark = pytest.mark.usefixtures("one_device")

SHAPE = (21, 18, 13)
rng = np.random.default_rng(0)
IMAGE = rng.normal(size=(*SHAPE, 2)).astype(np.float32)
NOISE = np.zeros((1, *IMAGE.shape), np.float32)
LABELS = np.zeros(SHAPE, np.int32)
LABELS[11:14, 8:10, 5:8] = 1  # across a seam of windows
VOXELS = np.argwhere(LABELS)


def signed_maximum(rows):
    largest = np.abs(rows).argmax(axis=0, keepdims=True)
    return np.take_along_axis(rows, largest, axis=0)[0]


def difference(a, b):
    return np.abs(a - b).max() / np.abs(b).max()


def found(network, **settings):
    field = sliding_window(converted(network), roi=ROI)
    return smoothgrad(field, IMAGE, LABELS, noise_samples=NOISE, **settings).dense(1)


@pytest.mark.parametrize("network", thorough_except(NETWORKS, "short"))
def test_groups_are_summed_before_the_maximum_is_taken(network):
    rows = autograd_rows(network, "sliding", IMAGE, VOXELS)
    sums = [rows[i : i + 4].sum(axis=0) for i in range(0, len(rows), 4)]
    assert difference(found(network, group_size=4), signed_maximum(np.stack(sums))) <= 1e-5


def test_a_sample_of_voxels_is_the_same_for_all_noise_and_seeds():
    chosen = VOXELS[stratified(VOXELS, 5)]
    rows = autograd_rows("short", "sliding", IMAGE, chosen)
    approximate = found("short", voxels_per_lesion=5)
    assert difference(approximate, signed_maximum(rows)) <= 1e-5
    np.testing.assert_array_equal(found("short", voxels_per_lesion=5, seed=3), approximate)


@pytest.mark.parametrize("settings", [{"voxels_per_lesion": 1000}, {"group_size": 1}], ids=str)
def test_what_leaves_nothing_out_is_exact(settings):
    np.testing.assert_array_equal(found("short", **settings), found("short"))


def test_one_approximation_at_a_time():
    with pytest.raises(InputError, match="not in two"):
        found("short", voxels_per_lesion=5, group_size=4)
