"""The class level of networks with several classes: which voxels are segmented, and none."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.tiny import random_model

from jaxsal import InputError, gradcam, gradcam_plus_plus, smoothgrad, whole_volume
from jaxsal.saliency.heat_maps import heat_maps
from jaxsal.saliency.methods.gradcam import GradCamSettings

pytestmark = pytest.mark.usefixtures("one_device")

SHAPE = (8, 4, 4)
TARGET = 2
IMAGE = np.random.default_rng(3).normal(size=(*SHAPE, 2)).astype(np.float32)
WEIGHTS = np.float32([[0.1, -0.2, 0.3, 0.1], [-0.3, 0.1, 0.2, -0.1]])  # no probability of 0.5


def pointwise():
    """A field of four classes whose logits at a voxel are linear in the image there."""
    return whole_volume(lambda batch: batch @ WEIGHTS)


def argmax(logits):
    """Where PyTorch's argmax is the target."""
    return torch.from_numpy(np.array(logits)).argmax(-1).numpy() == TARGET


def test_the_argmax_domain_is_where_the_class_is_the_largest():
    domain = argmax(IMAGE @ WEIGHTS)
    assert 0 < domain.sum() < domain.size
    maps = smoothgrad(pointwise(), IMAGE, domain="argmax", target=TARGET, samples=1, noise=0)
    # A voxel's logit depends on that voxel alone, by the weights of its class.
    expected = domain[..., None] * WEIGHTS[:, TARGET]
    np.testing.assert_allclose(maps.dense(), expected, rtol=1e-6)


def test_a_threshold_that_no_voxel_reaches_is_told():
    with pytest.warns(UserWarning, match=r"no voxel is segmented: .* 0\.3\d*, .*domain argmax"):
        maps = smoothgrad(pointwise(), 0.5 * IMAGE, target=TARGET, samples=1)
    assert maps.labels == ()


def test_a_class_that_is_nowhere_the_largest_is_told():
    field = whole_volume(lambda batch: batch @ WEIGHTS - np.float32([0, 0, 9, 0]))
    with pytest.warns(UserWarning, match="nowhere the most probable class"):
        maps = smoothgrad(field, IMAGE, domain="argmax", target=TARGET, samples=1)
    assert maps.labels == ()


@pytest.mark.parametrize(
    ("method", "function"), [("gradcam", gradcam), ("gradcam++", gradcam_plus_plus)]
)
@pytest.mark.usefixtures("xla_convolutions")
def test_heat_maps_of_the_argmax_are_those_of_its_voxels(method, function):
    model = random_model(4)
    field = whole_volume(model)
    domain = argmax(field(IMAGE))
    assert 0 < domain.sum() < domain.size
    settings = GradCamSettings("decoder.0.joined", TARGET, method)
    found = function(model, IMAGE, layer=settings.layer, domain="argmax", target=TARGET)
    expected = heat_maps(model, IMAGE, domain, settings, class_level=True)
    assert found.dense().any()
    np.testing.assert_array_equal(found.dense(), expected.dense(1))


@pytest.mark.parametrize(
    ("labels", "domain", "said"),
    [
        (np.ones(SHAPE, int), "argmax", "for the class level, without labels"),
        (None, "largest", "domain must be one of threshold, argmax; got 'largest'"),
    ],
)
def test_domains_that_cannot_be_are_refused(labels, domain, said):
    with pytest.raises(InputError, match=said):
        smoothgrad(pointwise(), IMAGE, labels, domain=domain, samples=1)
    with pytest.raises(InputError, match=said):
        gradcam(random_model(2), IMAGE, labels, layer="bottleneck", domain=domain)
