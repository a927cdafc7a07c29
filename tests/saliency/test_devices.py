"""Shared between devices or not, maps are the same."""

from __future__ import annotations

import os
import subprocess
import sys

import jax
import numpy as np
import pytest
from helpers.peers import ROI, converted
from helpers.thorough import thorough_except

from jaxsal import InputError, sliding_window, smoothgrad, whole_volume

smoothgrad_module = sys.modules["jaxsal.saliency.smoothgrad"]
SHAPE = (21, 18, 13)
rng = np.random.default_rng(0)
IMAGE = rng.normal(size=(*SHAPE, 2)).astype(np.float32)
NOISE = 0.3 * rng.normal(size=(3, *SHAPE, 2)).astype(np.float32)
LABELS = np.zeros(SHAPE, np.int32)
LABELS[7:9, 8:10, 5:7] = 1
LABELS[15:17, 4:6, 8] = 2
LABELS[20, 17, 12] = 3


def maps_on(devices, field, **settings):
    return smoothgrad(field, IMAGE, LABELS, devices=jax.devices()[:devices], **settings)


@pytest.fixture(scope="module", autouse=True)
def four_devices():
    if len(jax.devices()) < 4:
        pytest.skip("XLA_FLAGS were set to fewer than four CPU devices")


# 3 samples on 2 devices: one is left over; on 3: one each; 1 sample on 4: only items are shared.
SHARED = [(2, 3), (3, 3), (4, 3), (4, 1), (4, 2)]


@pytest.mark.parametrize(
    ("name", "devices", "samples"),
    thorough_except(
        [(name, *shared) for name in ("sliding", "whole") for shared in SHARED],
        ("sliding", 2, 3),
    ),
)
def test_maps_do_not_depend_on_the_number_of_devices(name, devices, samples):
    model = converted("local")
    field = sliding_window(model, roi=ROI) if name == "sliding" else whole_volume(model)
    settings = {"noise_samples": NOISE[:samples], "standard_error": samples > 1}
    expected, found = maps_on(1, field, **settings), maps_on(devices, field, **settings)
    for label in expected.labels:
        a, b = found.crop(label), expected.crop(label)
        assert a.origin == b.origin
        assert a.samples == samples
        assert np.abs(a.values - b.values).max() <= 1e-6 * np.abs(b.values).max()
        if samples > 1:
            peak = np.abs(b.values).max()
            assert np.abs(a.standard_error - b.standard_error).max() <= 1e-5 * peak


@pytest.mark.thorough
@pytest.mark.parametrize("aggregate", ["max", "mean"])
def test_neither_do_those_of_networks_that_are_not_local(aggregate):
    field = sliding_window(converted("global"), roi=ROI)
    settings = {"noise_samples": NOISE, "aggregate": aggregate}
    expected, found = maps_on(1, field, **settings), maps_on(4, field, **settings)
    for label in expected.labels:
        a, b = found.dense(label), expected.dense(label)
        assert np.abs(a - b).max() <= 1e-6 * np.abs(b).max()


def run_on(devices, program):
    """In a process of its own, with so many CPU devices."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
    return subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags},
    )


EIGHT = """
import jax
import numpy as np
import jax.numpy as jnp
from jaxsal import sliding_window, smoothgrad

image = np.random.default_rng(0).normal(size=(14, 9, 9, 1)).astype(np.float32)
labels = np.zeros(image.shape[:3], np.int32)
labels[2:4, 3, 3:5], labels[6:9, 5, 5] = 1, 2
field = sliding_window(lambda x: jnp.tanh(x) + jnp.roll(x, 1, axis=1) ** 2, roi=8)
for samples in (1, 3, 8):  # over the items, over both, over the images

    def maps(devices):
        return smoothgrad(
            field, image, labels, samples=samples, noise_batch=1, devices=jax.devices()[:devices]
        )

    expected, found = maps(1), maps(8)
    for label in (1, 2):
        a, b = found.crop(label).values, expected.crop(label).values
        assert np.abs(a - b).max() <= 1e-6 * np.abs(b).max()
print(len(jax.devices()))
"""


@pytest.mark.thorough
def test_on_eight_devices_too():
    result = run_on(8, EIGHT)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == ["8"]


TRANSFORMER = """
import jax
import numpy as np
from jaxsal import smoothgrad, whole_volume
from jaxsal.model import Model
from jaxsal.nets.registry import config_from_arguments

arguments = {"in_channels": 1, "out_channels": 2, "feature_size": 24}
model = Model.initialise(config_from_arguments("swin-unetr", arguments), ("flair",))
random = np.random.default_rng(0)
image = random.normal(size=(64, 64, 64, 1)).astype(np.float32)
labels = np.zeros(image.shape[:3], np.int32)
labels[tuple(random.integers(16, 48, (3, 6)))] = 1, 2, 3, 4, 5, 6

def maps(devices):
    field, noise = whole_volume(model), np.zeros((1, *image.shape), np.float32)
    found = smoothgrad(field, image, labels, noise_samples=noise, devices=jax.devices()[:devices])
    return [found.dense(label) for label in found.labels]

expected = maps(1)
for _ in range(4):
    for a, b in zip(maps(2), expected, strict=True):
        assert np.abs(a - b).max() <= 1e-3 * np.abs(b).max()
"""


@pytest.mark.thorough
def test_a_transformer_at_its_real_size_has_the_same_maps_on_two_devices_at_once():
    """Not so where XLA leaves its convolutions to Eigen."""
    result = run_on(2, TRANSFORMER)
    assert result.returncode == 0, result.stderr


MEMORY = 12 * 2**20  # enough for two of the four devices


@pytest.mark.thorough
def test_where_memory_is_short_fewer_devices_are_used(monkeypatch):
    field = sliding_window(converted("local"), roi=ROI)
    expected = maps_on(1, field, noise_samples=NOISE)
    engines = []
    make = smoothgrad_module.Engine
    monkeypatch.setattr(
        smoothgrad_module,
        "Engine",
        lambda *arguments: engines.append(make(*arguments)) or engines[-1],
    )
    found = maps_on(4, field, noise_samples=NOISE, memory=MEMORY)
    assert len(engines[0].devices) < 4
    for label in expected.labels:
        a, b = found.dense(label), expected.dense(label)
        assert np.abs(a - b).max() <= 1e-6 * np.abs(b).max()


def test_no_devices_are_refused():
    with pytest.raises(InputError, match="one or more of one kind, got none"):
        maps_on(0, whole_volume(converted("local")), samples=1)
