"""The synthetic scan that speed is measured on, and what is made of the measurement."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from jaxsal.errors import InputError
from jaxsal.scan.calibration import (
    LESION_VOXELS,
    Throughput,
    measure_throughput,
    synthetic_scan,
)


def test_lesions_of_a_synthetic_scan_have_exact_sizes_and_do_not_touch():
    sizes = (24, 1, 93, 24)
    image, labels = synthetic_scan((40, 48, 36), 2, sizes, seed=3)
    assert np.bincount(labels.ravel())[1:].tolist() == list(sizes)
    _, count = ndimage.label(labels, np.ones((3, 3, 3)))
    assert count == len(sizes)
    assert image.shape == (40, 48, 36, 2)
    assert image[labels > 0].all()  # within the head
    assert not image[0, 0].any()  # outside
    again = synthetic_scan((40, 48, 36), 2, sizes, seed=3)
    np.testing.assert_array_equal(labels, again[1])


def test_a_scan_without_room_for_its_lesions_is_refused():
    with pytest.raises(InputError, match=r"no room for lesions of \[500\]"):
        synthetic_scan((8, 8, 8), 1, (500,))


def test_the_forecast_is_in_proportion_to_voxels_and_samples():
    speed = Throughput("cpu", (8, 8, 8), gradients=96, seconds=4.0, first_call=9.0)
    assert speed.gradients_per_second == 24
    assert speed.forecast(voxels=48 * 93, samples=50) == pytest.approx(9300)


@pytest.mark.parametrize(("least", "lesions"), [(0, [2, 2]), (1e9, [2, 2, 8])])
def test_the_job_grows_until_it_takes_long_enough_or_there_is_no_room(
    least: float, lesions: list[int]
):
    asked = []

    def maps(image: object, labels: np.ndarray, *, samples: int) -> None:
        asked.append((labels.max(), samples))

    found = measure_throughput(maps, (16, 16, 16), 2, samples=3, least_seconds=least)
    assert asked == [(n, 3) for n in lesions]  # 32 lesions have no room
    assert found.gradients == lesions[-1] * LESION_VOXELS * 3
    assert found.first_call > 0
