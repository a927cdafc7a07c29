"""Batches that do not fit are halved; the queue loses no voxel."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from jaxsal.field.sliding import sliding_window
from jaxsal.saliency.aggregate import signed_maximum
from jaxsal.saliency.batches import Batch, Linearisations
from jaxsal.saliency.domains import Domain
from jaxsal.saliency.items import Items, ItemWindows, consecutive, items_of


def items(count):
    """So many items of one voxel each, every one a lesion of its own."""
    return Items(np.arange(count), np.arange(count)[:, None])


@pytest.mark.parametrize("devices", [1, 2])
def test_out_of_memory_halves_the_batch_and_says_so_once(devices):
    def compute(batch):
        if len(batch) > 2 * devices:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")
        return jnp.asarray(batch.owners) * 10

    batch = Batch(8, devices)
    with pytest.warns(UserWarning, match="ran out of memory") as warnings:
        results = list(batch.run(items(5), compute))
    assert [x for _, n, r in results for x in r[:n].tolist()] == [0, 10, 20, 30, 40]
    assert all(len(r) == 2 * devices for _, _, r in results)  # the last is filled up
    assert len(warnings) == 1


def test_what_can_be_forgotten_is_forgotten_before_giving_up():
    kept = [3]

    def compute(batch):
        if kept:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")
        return jnp.asarray(batch.owners)

    with pytest.warns(UserWarning, match="ran out of memory"):
        results = list(Batch(1).run(items(2), compute, lambda: bool(kept and kept.pop())))
    assert [r.tolist() for _, _, r in results] == [[0], [1]]


def test_linearised_windows_are_dropped_by_how_long_they_were_not_used():
    made = []

    class Programs:
        def distribute(self, images):
            return images

        def linearise(self, parameters, images, start, size):
            made.append(tuple(start))
            return tuple(start)

    pulls = Linearisations(Programs(), (), None, (4, 4, 4), keep=2)
    a, b, c = np.eye(3, dtype=int)
    for start in (a, b, a, c, a, b):
        assert pulls.at(start) == tuple(start)
    assert made == [tuple(a), tuple(b), tuple(c), tuple(b)]
    assert pulls.forget()
    assert not pulls.forget()  # one is needed
    pulls.at(a)
    assert made[4:] == [tuple(a)]


def test_other_errors_and_hopeless_ones_are_not_hidden():
    def broken(batch):
        raise jax.errors.JaxRuntimeError("INTERNAL: no")

    def hopeless(batch):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED")

    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"):
        list(Batch(4).run(items(3), broken))
    with pytest.raises(jax.errors.JaxRuntimeError, match="RESOURCE_EXHAUSTED"):
        list(Batch(1).run(items(3), hopeless))


values = arrays(np.float32, 8, elements=st.floats(-2, 2, width=16))


@given(values, values, values)
def test_the_signed_maximum_is_associative_commutative_and_has_zero_as_neutral(a, b, c):
    def combine(x, y):
        return np.asarray(signed_maximum(jnp.asarray(x), jnp.asarray(y)))

    np.testing.assert_array_equal(combine(a, b), combine(b, a))
    np.testing.assert_array_equal(combine(combine(a, b), c), combine(a, combine(b, c)))
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
    for group in windows.groups:
        for window in group.windows:
            points, weights = windows.points(group.items, window)
            there = weights > 0
            np.add.at(found[:, window], group.items.rows[there], weights[there])
            inside = voxels[group.items.rows[there]] + plan.before - plan.starts[window]
            np.testing.assert_array_equal(points[there], inside)
    np.testing.assert_array_equal(found, plan.weights)
