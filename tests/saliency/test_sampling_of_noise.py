"""Standard errors over noise samples, and stopping when they are small enough."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from helpers.peers import ROI, converted
from helpers.thorough import thorough_except

from jaxsal import InputError, sliding_window, smoothgrad, whole_volume

pytestmark = pytest.mark.usefixtures("one_device")

SHAPE = (21, 18, 13)
rng = np.random.default_rng(0)
IMAGE = rng.normal(size=(*SHAPE, 2)).astype(np.float32)
LABELS = np.zeros(SHAPE, np.int32)
LABELS[7:9, 8:10, 5:7] = 1
LABELS[15:17, 4:6, 8] = 2


def quadratic(slopes):
    """A network whose gradient is slope × image: noisy by as much as the image is."""
    return whole_volume(lambda x: slopes * x**2)


FIELDS = {
    "network": sliding_window(converted("local"), roi=ROI),
    "toy": sliding_window(lambda x: 0.5 * x**2 + x, roi=ROI),  # windows whose gradients add up
}


@pytest.mark.parametrize(
    ("aggregate", "name"),
    thorough_except(
        [(aggregate, name) for aggregate in ("max", "mean") for name in FIELDS],
        ("max", "toy"),
        ("mean", "toy"),
    ),
)
def test_the_standard_error_is_that_of_a_mean_of_independent_maps(aggregate, name):
    field = FIELDS[name]
    noise = 0.3 * rng.normal(size=(6, *SHAPE, 2)).astype(np.float32)
    settings = {"aggregate": aggregate}
    each = [
        smoothgrad(field, IMAGE, LABELS, noise_samples=one[None], **settings).dense(1)
        for one in noise
    ]
    found = smoothgrad(
        field, IMAGE, LABELS, noise_samples=noise, standard_error=True, **settings
    ).crop(1)
    box = found.box.slices
    expected = np.std(each, axis=0, ddof=1)[box] / np.sqrt(6)
    np.testing.assert_allclose(found.standard_error, expected, atol=1e-4 * expected.max())


def test_small_standard_errors_of_large_values_are_not_lost_to_rounding():
    image = np.full((4, 4, 4, 1), 1.1, np.float32)
    labels = np.zeros((4, 4, 4), np.int32)
    labels[1, 1, 1] = 1
    noise = 1e-4 * rng.normal(size=(50, *image.shape)).astype(np.float32)
    found = smoothgrad(quadratic(0.5), image, labels, noise_samples=noise, standard_error=True)
    gradients = (image + noise)[:, 1, 1, 1, 0].astype(np.float64)  # of 0.5 x²
    expected = gradients.std(ddof=1) / np.sqrt(50)
    assert found.crop(1).standard_error.max() == pytest.approx(expected, rel=1e-2)


def test_it_is_kept_only_if_asked_for():
    maps = smoothgrad(quadratic(0.5), IMAGE, LABELS, samples=2)
    assert maps.crop(1).standard_error is None


def test_samples_are_added_until_the_error_is_below_the_tolerance():
    image = np.ones((6, 4, 4, 1), np.float32)
    image[3:] = 10  # the same noise matters less where the gradient is large
    labels = np.zeros((6, 4, 4), np.int32)
    labels[1, 1, 1], labels[4, 1, 1] = 1, 2
    settings = {"samples": 400, "noise": 0.5, "noise_scale": "absolute"}
    events = []
    maps = smoothgrad(
        quadratic(0.5), image, labels, tolerance=0.05, on_progress=events.append, **settings
    )
    noisy, calm = maps.crop(1), maps.crop(2)
    assert events[-1].gradients_done == events[-1].gradients  # those spared count as done
    assert calm.samples == 5  # the fewest
    assert 50 < noisy.samples < 200  # (0.5 / 0.05)² = 100 in expectation
    full = smoothgrad(quadratic(0.5), image, labels, **{**settings, "samples": calm.samples})
    np.testing.assert_array_equal(maps.dense(2), full.dense(2))
    for devices in (jax.devices()[:1], jax.devices()[:2]):  # other numbers of samples at once
        again = smoothgrad(
            quadratic(0.5), image, labels, tolerance=0.05, devices=devices, **settings
        )
        assert again.crop(1).samples == noisy.samples


@pytest.mark.thorough
def test_samples_end_at_the_given_number_all_the_same():
    maps = smoothgrad(quadratic(0.5), IMAGE, LABELS, samples=6, noise=0.3, tolerance=1e-6)
    assert maps.crop(1).samples == 6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tolerance": 0.0}, "tolerance must be between 0 and 1"),
        ({"tolerance": 0.1, "samples": 5}, "after 5 samples"),
        ({"standard_error": True, "samples": 1}, "needs 2 samples"),
    ],
)
def test_what_cannot_be_is_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        smoothgrad(quadratic(0.5), IMAGE, LABELS, **arguments)
