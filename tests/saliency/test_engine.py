"""Batches that do not fit are halved; the queue loses no voxel."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from jaxsal.field import sliding_window
from jaxsal.saliency.aggregate import signed_maximum
from jaxsal.saliency.engine import Batch
from jaxsal.saliency.memory import working_bytes
from jaxsal.saliency.queue import by_lesions, window_groups


def test_out_of_memory_halves_the_batch_and_says_so_once():
    def compute(items):
        if len(items) > 2:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")
        return jnp.asarray(items) * 10

    batch = Batch(8)
    with pytest.warns(UserWarning, match="ran out of memory") as warnings:
        results = list(batch.run(np.arange(5), compute))
    assert [r[:n].tolist() for _, n, r in results] == [[0, 10], [20, 30], [40]]
    assert all(len(r) == 2 for _, _, r in results)  # the last is filled up, not a new shape
    assert len(warnings) == 1


def test_other_errors_and_hopeless_ones_are_not_hidden():
    def broken(items):
        raise jax.errors.JaxRuntimeError("INTERNAL: no")

    def hopeless(items):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED")

    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"):
        list(Batch(4).run(np.arange(3), broken))
    with pytest.raises(jax.errors.JaxRuntimeError, match="RESOURCE_EXHAUSTED"):
        list(Batch(1).run(np.arange(3), hopeless))


values = arrays(np.float32, 8, elements=st.floats(-2, 2, width=16))


@given(values, values, values)
def test_the_signed_maximum_is_associative_commutative_and_has_zero_as_neutral(a, b, c):
    def combine(x, y):
        return np.asarray(signed_maximum(jnp.asarray(x), jnp.asarray(y)))

    np.testing.assert_array_equal(combine(a, b), combine(b, a))
    np.testing.assert_array_equal(combine(combine(a, b), c), combine(a, combine(b, c)))
    np.testing.assert_array_equal(combine(a, np.zeros(8, np.float32)), a)


@given(st.integers(0, 2**32), st.integers(1, 60), st.integers(1, 5))
def test_every_voxel_is_in_exactly_one_group_and_part(seed, count, slots):
    random = np.random.default_rng(seed)
    voxels = random.integers(0, (21, 18, 13), (count, 3))
    owners = np.sort(random.integers(0, 9, count))
    plan = sliding_window(lambda x: x, roi=8).plan((21, 18, 13), voxels)
    seen = []
    for group in window_groups(plan, owners):
        assert (plan.weights[group.rows][:, list(group.windows)] > 0).all()
        for rows in by_lesions(group.rows, owners, slots):
            assert len(np.unique(owners[rows])) <= slots
            seen += rows.tolist()
    assert sorted(seen) == list(range(count))


def test_working_memory_counts_what_is_alive_at_once():
    def chain(x):  # two arrays of 4,000 bytes alive at a time, however long the chain
        for _ in range(10):
            x = jnp.sin(x)
        return x

    def fan(x):  # all ten alive
        return sum([jnp.sin(x + i) for i in range(10)])

    x = jnp.zeros(1000)
    assert working_bytes(chain, x) < working_bytes(fan, x)
    assert working_bytes(chain, x) >= 2 * 4000
