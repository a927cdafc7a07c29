"""What memory or a device is lost for is done again; the queue loses no voxel."""

from __future__ import annotations

import sys
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.thorough import thorough_except
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from jaxsal import InputError, sliding_window, smoothgrad
from jaxsal.current_device import current_device
from jaxsal.saliency.aggregate import signed_maximum
from jaxsal.saliency.domains import Domain
from jaxsal.saliency.items import ItemWindows, consecutive, items_of
from jaxsal.saliency.memory import needs_of
from jaxsal.saliency.pace import Pace
from jaxsal.saliency.portion import Portions
from jaxsal.saliency.programs import Programs

SHAPE = (14, 9, 9)
IMAGE = np.random.default_rng(0).normal(size=(*SHAPE, 1)).astype(np.float32)
LABELS = np.zeros(SHAPE, np.int32)
LABELS[2:4, 3, 3:5] = 1
LABELS[6:9, 5, 5] = 2


def maps(devices=1, **settings):
    def network(x):
        return jnp.tanh(x) + jnp.roll(x, 1, axis=1) ** 2

    return smoothgrad(
        sliding_window(network, roi=8),
        IMAGE,
        LABELS,
        samples=6,
        devices=jax.devices()[:devices],
        **settings,
    )


@pytest.fixture(scope="module")
def expected():
    return maps()


def assert_equal(found, expected):
    for label in (1, 2):
        a, b = found.crop(label), expected.crop(label)
        assert (a.samples, a.origin) == (b.samples, b.origin) == (6, b.origin)
        assert np.abs(a.values - b.values).max() <= 1e-6 * np.abs(b.values).max()


class Failing:
    """Has pull-backs, or another method, fail some time."""

    def __init__(self, monkeypatch, message, when, owner=Programs, name="pull_back"):
        self.calls, original = 0, getattr(owner, name)

        def method(called, *arguments):
            self.calls += 1
            if when(self.calls, arguments):
                raise jax.errors.JaxRuntimeError(message)
            return original(called, *arguments)

        monkeypatch.setattr(owner, name, method)


def batch_of(arguments):
    """How many items a call pulls back at once."""
    return arguments[4].slots.shape[-1]


def test_when_memory_runs_out_batches_are_halved_which_is_said_once(monkeypatch, expected):
    events = []
    Failing(monkeypatch, "RESOURCE_EXHAUSTED: Out", lambda _, given: batch_of(given) > 2)
    with pytest.warns(UserWarning, match="ran out of memory") as warnings:
        found = maps(voxel_batch=8, on_progress=events.append)
    assert len(warnings) == 1
    assert_equal(found, expected)
    done = [event.gradients_done for event in events]
    assert done == sorted(done)
    assert done[-1] == events[-1].gradients


def test_other_errors_and_hopeless_ones_are_not_hidden(monkeypatch):
    Failing(monkeypatch, "INTERNAL: no", lambda *_: True)
    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"):
        maps()
    Failing(monkeypatch, "RESOURCE_EXHAUSTED", lambda *_: True)
    with (
        pytest.raises(jax.errors.JaxRuntimeError, match="RESOURCE_EXHAUSTED"),
        pytest.warns(UserWarning, match="ran out of memory"),
    ):
        maps(voxel_batch=2)


def test_when_memory_runs_out_fewer_noisy_images_are_taken_at_once(monkeypatch, expected):
    images = []

    def when(_, given):
        images.append(given[3].shape[1])
        return images[-1] > 1

    Failing(monkeypatch, "RESOURCE_EXHAUSTED: Out", when)
    with pytest.warns(UserWarning, match="ran out of memory"):
        found = maps(noise_batch=4, standard_error=True)
    assert list(dict.fromkeys(images)) == [4, 2, 1]
    assert_equal(found, expected)


def lose(monkeypatch, lost):
    """Has these devices compute no more."""
    for name in ("engine", "accumulation"):
        module = sys.modules[f"jaxsal.saliency.{name}"]
        monkeypatch.setattr(module, "computes", lambda device: device not in lost)


several_devices = pytest.mark.skipif(
    "len(jax.devices()) < 2", reason="XLA_FLAGS were set to fewer than two CPU devices"
)


@several_devices
@pytest.mark.parametrize(
    ("lost", "settings"),
    thorough_except(
        [(0, {}), (1, {"standard_error": True}), (0, {"tolerance": 1e-9})],
        (1, {"standard_error": True}),
    ),
)
def test_what_a_lost_device_leaves_is_done_by_the_others(monkeypatch, expected, lost, settings):
    events, planned_for = [], []

    def noted(*given):
        planned_for.append(current_device())
        return needs_of(*given)

    monkeypatch.setattr(sys.modules["jaxsal.saliency.layout"], "needs_of", noted)
    message = "INTERNAL: device lost"
    failing = Failing(monkeypatch, message, lambda call, _: call == 2, Portions, "run")
    lose(monkeypatch, jax.devices()[lost : lost + 1])
    with pytest.warns(UserWarning, match="1 of 2 devices no longer compute"):
        found = maps(2, noise_batch=1, on_progress=events.append, **settings)
    assert failing.calls == 2 + 4  # portions: the first was of two images, the second is lost
    assert planned_for[-1] == jax.devices()[1 - lost]
    assert_equal(found, expected)
    assert events[-1].gradients_done == events[-1].gradients


@several_devices
@pytest.mark.parametrize("call", [2, 4])  # of the second size of maps, at the first images or later
@pytest.mark.parametrize(
    ("message", "lost", "said"),
    [
        ("RESOURCE_EXHAUSTED: Out", [], "ran out of memory"),
        ("INTERNAL: device lost", [0], "1 of 2 devices no longer compute"),
    ],
)
def test_sums_are_whole_whatever_happens_while_images_are_added(
    monkeypatch, expected, call, message, lost, said
):
    sizes = []

    def when(calls, given):
        sizes.append(given[0].shape[2:])
        return calls == call

    Failing(monkeypatch, message, when, name="finish")
    lose(monkeypatch, [jax.devices()[i] for i in lost])
    with pytest.warns(UserWarning, match=said):
        found = maps(2, noise_batch=1)
    assert len(set(sizes)) == 2
    assert len(sizes) > call
    assert_equal(found, expected)


def test_without_a_device_that_computes_the_error_is_told(monkeypatch):
    Failing(monkeypatch, "INTERNAL: device lost", lambda call, _: call == 1)
    lose(monkeypatch, jax.devices())
    with pytest.raises(jax.errors.JaxRuntimeError, match="device lost"):
        maps(2)


def test_a_clock_that_stands_still_stops_nothing(monkeypatch):
    monkeypatch.setattr("time.perf_counter", lambda: 1.0)
    told = []
    pace = Pace(told.append)
    for gradients in (3, 4):
        pace.started(jnp.zeros(1), 1, gradients)
    pace.finish()
    assert told == [3, 4]
    assert pace.batches > 1


def test_voxels_that_no_window_reaches_are_refused():
    voxels = np.argwhere(LABELS)
    plan = sliding_window(lambda x: x, roi=8).plan(SHAPE, voxels)
    plan = replace(plan, weights=plan.weights * (np.arange(len(voxels)) != 1)[:, None])
    items = items_of([Domain(1, voxels)], [consecutive(voxels, 1)])
    with pytest.raises(InputError, match="no window for some voxels"):
        ItemWindows(plan, voxels, items)


values = arrays(np.float32, 8, elements=st.floats(-2, 2, width=16))


@given(values, values, values)
def test_the_signed_maximum_is_associative_commutative_and_has_zero_as_neutral(a, b, c):
    def combine(x, y):
        return np.asarray(signed_maximum(jnp.asarray(x), jnp.asarray(y)))

    np.testing.assert_array_equal(combine(a, b), combine(b, a))
    np.testing.assert_array_equal(combine(a, combine(b, c)), combine(combine(a, b), c))
    np.testing.assert_array_equal(combine(a, np.zeros(8, np.float32)), a)


@given(st.integers(0, 2**32), st.integers(1, 9), st.sampled_from([1, 3, 100]))
def test_every_weighted_voxel_is_in_exactly_one_item_of_each_of_its_windows(seed, lesions, size):
    random = np.random.default_rng(seed)
    shape = (21, 18, 13)
    counts = random.integers(1, 20, lesions)
    voxels = random.integers(0, shape, (counts.sum(), 3))
    domains = [Domain(i, v) for i, v in enumerate(np.split(voxels, np.cumsum(counts)[:-1]))]
    together = [consecutive(domain.voxels, size) for domain in domains]
    plan = sliding_window(lambda x: x, roi=8).plan(shape, voxels)
    found = np.zeros_like(plan.weights)
    windows = ItemWindows(plan, voxels, items_of(domains, together))
    points, weights = windows.points(np.arange(len(windows.windows)))
    rows = windows.items.rows[windows.of_pairs]
    reached = np.broadcast_to(windows.windows[:, None], rows.shape)
    there = weights > 0
    np.add.at(found, (rows[there], reached[there]), weights[there])
    inside = voxels[rows[there]] + plan.before - plan.starts[reached[there]]
    np.testing.assert_array_equal(points[there], inside)
    np.testing.assert_array_equal(found, plan.weights)
