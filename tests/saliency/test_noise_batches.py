"""By default, devices that take several gradients at once fill their batches with noise samples."""

from __future__ import annotations

import sys

import jax
import numpy as np
import pytest
from helpers.peers import ROI, converted
from helpers.thorough import thorough_except

from jaxsal import InputError, sliding_window, smoothgrad
from jaxsal.saliency.derivative import LocalDerivative

smoothgrad_module = sys.modules["jaxsal.saliency.smoothgrad"]
SHAPE = (20, 18, 17)
rng = np.random.default_rng(0)
IMAGE = rng.normal(size=(*SHAPE, 2)).astype(np.float32)
NOISE = 0.3 * rng.normal(size=(6, *SHAPE, 2)).astype(np.float32)
LABELS = np.zeros(SHAPE, np.int32)
LABELS[8, 8, 8:10] = 1
LABELS[2, 3, 14] = 2


@pytest.fixture(autouse=True)
def wide_devices(monkeypatch):
    monkeypatch.setattr(LocalDerivative, "largest_cpu_batch", 16)


@pytest.fixture
def engines(monkeypatch):
    """The engines that are made."""
    made = []
    make = smoothgrad_module.Engine
    monkeypatch.setattr(
        smoothgrad_module,
        "Engine",
        lambda *arguments: made.append(make(*arguments)) or made[-1],
    )
    return made


def maps(devices=1, **settings):
    field = sliding_window(converted("local"), roi=ROI)
    chosen = jax.devices()[:devices]
    return smoothgrad(field, IMAGE, LABELS, noise_samples=NOISE, devices=chosen, **settings)


def assert_equal(found, expected):
    for label in (1, 2):
        a, b = found.crop(label), expected.crop(label)
        assert a.samples == b.samples
        assert np.abs(a.values - b.values).max() <= 1e-6 * np.abs(b.values).max()


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("devices", "options"),
    thorough_except(
        [(1, {}), (4, {}), (1, {"tolerance": 0.5}), (4, {"tolerance": 0.5})],
        (4, {"tolerance": 0.5}),
    ),
)
def test_maps_do_not_depend_on_it(engines, devices, options):
    expected = maps(1, noise_batch=1, **options)
    found = maps(devices, **options)
    assert [engine.noise_batch for engine in engines] == [1, 2]
    assert_equal(found, expected)


@pytest.mark.thorough
def test_it_stays_within_the_memory(engines):
    memory = 3 * 2**20
    with pytest.raises(InputError, match="memory"):
        maps(noise_batch=4, memory=memory)
    expected = maps(noise_batch=1)
    found = maps(memory=memory)
    assert engines[-1].noise_batch == 1
    assert_equal(found, expected)


def test_it_gives_way_to_a_voxel_batch(engines):
    maps(voxel_batch=1)
    assert engines[0].noise_batch == 1
