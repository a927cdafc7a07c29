"""The plain gradient and VarGrad equal PyTorch's autograd, and their formulas by hand."""

from __future__ import annotations

from functools import cache
from itertools import product

import numpy as np
import pytest
from helpers.peers import ROI, aggregated, autograd_rows, converted
from helpers.thorough import thorough_except

from jaxsal import InputError, gradient, sliding_window, vargrad, whole_volume
from jaxsal.saliency.methods.gradient import GradientSettings
from jaxsal.saliency.methods.vargrad import VarGradSettings

pytestmark = pytest.mark.usefixtures("one_device")

SHAPE = (21, 18, 13)
rng = np.random.default_rng(0)
IMAGE = rng.normal(size=(*SHAPE, 2)).astype(np.float32)
NOISE = 0.3 * rng.normal(size=(3, *SHAPE, 2)).astype(np.float32)
LABELS = np.zeros(SHAPE, np.int32)
LABELS[7:9, 8:10, 5:7] = 1  # in the interior
LABELS[15:17, 4:6, 8] = 2  # across the seams of windows along X
VOXELS = {label: np.argwhere(label == LABELS) for label in (1, 2)}
FIELDS, AGGREGATES = ("sliding", "whole"), ("max", "mean")
# Of the peak: float32 rounding of gradients, for a variance of differences of them; measured 3e-6.
TOLERANCE = {"gradient": 1e-5, "vargrad": 1e-4}
# Quick: each method, field and aggregate, once.
CASES = thorough_except(
    product(TOLERANCE, FIELDS, AGGREGATES),
    ("gradient", "whole", "mean"),
    ("vargrad", "sliding", "max"),
)


def make_field(name):
    model = converted("short")
    return sliding_window(model, roi=ROI) if name == "sliding" else whole_volume(model)


@cache
def by_autograd(field, label, aggregate, sample=None):
    """A lesion's gradient at a noisy image, or the image itself: (X, Y, Z, C)."""
    image = IMAGE if sample is None else IMAGE + NOISE[sample]
    return aggregated(autograd_rows("short", field, image, VOXELS[label]), aggregate)


@pytest.mark.parametrize(("method", "name", "aggregate"), CASES)
def test_maps_equal_autograd(method, name, aggregate):
    field, given = make_field(name), {"aggregate": aggregate}
    if method == "gradient":
        maps = gradient(field, IMAGE, LABELS, **given)
    else:
        maps = vargrad(field, IMAGE, LABELS, noise_samples=NOISE, **given)
    for label in maps.labels:
        expected = by_autograd(name, label, aggregate)
        if method == "vargrad":
            several = [by_autograd(name, label, aggregate, n) for n in range(len(NOISE))]
            expected = np.var(np.array(several, np.float64), axis=0)
        found = maps.dense(label)
        assert found.dtype == np.float32
        assert np.abs(found - expected).max() <= TOLERANCE[method] * np.abs(expected).max()


def test_a_variance_far_below_the_gradient_does_not_cancel():
    """Of 1000 + x: the squares' mean minus the mean's square, in float32, would be rounding."""
    image, labels = np.zeros((4, 4, 4, 1), np.float32), np.ones((4, 4, 4), int)
    noise = rng.normal(size=(8, *image.shape)).astype(np.float32)
    field = whole_volume(lambda x: 1000 * x + x * x / 2)
    found = vargrad(field, image, labels, target=0, aggregate="sum", noise_samples=noise)
    # a gradient near 1000 is rounded to 6e-5, of a standard deviation of 1
    np.testing.assert_allclose(found.dense(1), np.var(noise, axis=0), rtol=2e-3, atol=1e-3)


def test_a_linear_network_has_no_variance():
    image, labels = np.ones((4, 4, 4, 1), np.float32), np.ones((4, 4, 4), int)
    assert not vargrad(whole_volume(lambda x: 2 * x), image, labels, target=0).dense(1).any()


def test_the_class_level_is_that_of_the_sum():
    field = make_field("whole")
    found = gradient(field, IMAGE)
    domain = np.asarray(field(IMAGE))
    domain = domain[..., 1] >= domain[..., 0]
    expected = gradient(field, IMAGE, domain, aggregate="sum").dense(1)
    np.testing.assert_allclose(found.dense(), expected, atol=1e-6 * np.abs(expected).max())


def test_what_has_no_meaning_for_them_is_refused():
    for name in ("tolerance", "standard_error"):
        with pytest.raises(InputError, match="for means over noisy images"):
            vargrad(make_field("whole"), IMAGE, LABELS, **{name: 0.1})
    for name, value in (("samples", 3), ("noise", 0.1), ("noise_samples", NOISE), ("seed", 1)):
        with pytest.raises(InputError, match=f"{name} is about noise"):
            gradient(make_field("whole"), IMAGE, LABELS, **{name: value})
    with pytest.raises(InputError, match="a variance needs 2 samples or more, got 1"):
        VarGradSettings(samples=1)
    with pytest.raises(TypeError, match="samples"):
        GradientSettings(samples=2)
    assert (GradientSettings().samples, GradientSettings().noise) == (1, 0)
