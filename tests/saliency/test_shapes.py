"""Scans of many shapes: the network is compiled for the first of them only."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from helpers.compilations import compilations
from helpers.peers import ROI
from helpers.thorough import thorough_except

from jaxsal import (
    Model,
    compilation,
    gradcam_plus_plus,
    sliding_window,
    smoothgrad,
    whole_volume,
)
from jaxsal.nets.registry import config_from_arguments

# Larger than the windows, which lie alike around the lesion: voxels near their edges have programs
# of their own.
SHAPES = ((21, 18, 24), (21, 18, 31))
LESION = (slice(8, 10), slice(7, 9), slice(6, 8))
NETWORK = {"logits_on", "prepare", "linearise", "pull_back", "_linearise", "_gradients"}


def predict(model, image, labels):
    sliding_window(model, roi=ROI)(jnp.asarray(image))


def smoothgrad_sliding(model, image, labels):
    smoothgrad(sliding_window(model, roi=ROI), image, labels, samples=2)


def smoothgrad_whole(model, image, labels):
    smoothgrad(whole_volume(model), image, labels, samples=2)


def heat_map(model, image, labels):
    field = sliding_window(model, roi=ROI)
    gradcam_plus_plus(model, image, labels, layer="decoder.0.joined", field=field)


@pytest.fixture(scope="module")
def model():
    """One that no other test has had compiled."""
    arguments = {"in_channels": 2, "out_channels": 2, "channels": (2, 3), "strides": (2,)}
    config = config_from_arguments("unet", {**arguments, "norm": "batch"})
    return Model.initialise(config, ("flair", "t1"), seed=3)


def scan(shape):
    """An image of this shape and the label map of one lesion."""
    image = np.random.default_rng(0).normal(size=(*shape, 2)).astype(np.float32)
    labels = np.zeros(shape, np.int32)
    labels[LESION] = 1
    return image, labels


@pytest.mark.thorough
@pytest.mark.parametrize(
    "work",
    # predicting is a part of what explaining does
    thorough_except(
        [predict, smoothgrad_sliding, smoothgrad_whole, heat_map], smoothgrad_sliding, heat_map
    ),
)
def test_a_scan_of_another_shape_finds_the_network_compiled(work, model, monkeypatch):
    monkeypatch.setattr(compilation, "_kinds", set())  # far from where programs are forgotten
    first, second = map(scan, SHAPES)
    with compilations() as names:
        work(model, *first)
    assert NETWORK & set(names)
    with compilations() as names:
        work(model, *second)
    assert names
    assert not NETWORK & set(names)


def test_a_field_keeps_arrays_of_one_shape_only():
    field = sliding_window(lambda batch: batch, roi=4)
    for n in range(5, 9):
        field.plan((n, 5, 5), np.zeros((1, 3), int))
    assert list(field._counts) == [(8, 5, 5)]
