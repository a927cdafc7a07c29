"""Devices communicate only where a portion of noisy images is finished: by the compiled text."""

from __future__ import annotations

import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from jaxsal.saliency.books import Book
from jaxsal.saliency.derivative import DenseDerivative
from jaxsal.saliency.programs import ITEMS, SAMPLES, Programs, device_mesh
from jaxsal.saliency.schedule import FrameMerge

COLLECTIVES = ("all-gather", "all-reduce", "all-to-all", "collective-", "reduce-scatter")
SIZE, FRAME, MAP = (8, 8, 8), (16, 16, 16), (32, 32, 32)
NONE = (False, False, False)


def network(parameters, batch):
    return jnp.tanh(batch * parameters) + jnp.roll(batch, 1, axis=1) ** 2


def compiled(devices, samples):
    """The compiled text of every program, by name, on devices over so many samples at once."""
    mesh = device_mesh(devices, samples)
    programs = Programs(DenseDerivative(network, 0, 1, SIZE), mesh, several=True)
    items, rows = programs.item_devices, programs.sample_devices

    def struct(spec, *shape, dtype=jnp.float32):
        return jax.ShapeDtypeStruct(shape, dtype, sharding=NamedSharding(mesh, P(*spec)))

    def integers(*shape):
        return struct((ITEMS,), items, *shape, dtype=jnp.int32)

    values = (ITEMS, SAMPLES)
    images = struct((SAMPLES,), rows, 20, 18, 16, 1)
    windows = struct(values, items, rows, *SIZE, 1)
    frames = struct(values, 5 * items, rows, *FRAME, 1)
    maxima = struct(values, 4 * items, rows, *MAP, 1)
    total = struct((), 4, *MAP, 1)
    parameters, samples = struct(()), struct((), 4, dtype=jnp.int32)
    book = Book(
        integers(6, 2),
        integers(6, 2),
        integers(6, 2, 3),
        integers(6, 2),
        integers(6, 2, 4),
        struct((ITEMS,), items, 6, 2),
    )
    merge = FrameMerge(integers(4), integers(4), integers(4, 3), integers())
    slots = jax.tree.map(
        lambda leaf: struct((ITEMS, SAMPLES), *leaf.shape, dtype=leaf.dtype),
        jax.eval_shape(programs.linearise, parameters, None, windows, integers(1), integers()),
    )
    calls = {
        "cut": (lambda *given: programs.cut(*given, SIZE), images, integers(1, 3)),
        "linearise": (
            lambda *given: programs.linearise(given[0], None, *given[1:]),
            *(parameters, windows, integers(1), integers()),
        ),
        "pull_back": (
            lambda *given: programs.pull_back(NONE, (), *given),
            *(slots, frames, book, integers(2)),
        ),
        "merge": (programs.merge, maxima, frames, merge),
        "finish": (
            lambda *given: programs.finish(given[0], given[1:3], 3, 1, given[3], None),
            *(maxima, total, total, samples),
        ),
    }
    return {
        name: jax.jit(function).lower(*given).compile().as_text()
        for name, (function, *given) in calls.items()
    }


def communicating(texts):
    return [name for name, text in texts.items() if any(word in text for word in COLLECTIVES)]


@pytest.mark.parametrize("samples", [1, 2])
def test_only_finishing_communicates(samples):
    if len(jax.devices()) < 4:
        pytest.skip("XLA_FLAGS were set to fewer than four CPU devices")
    assert communicating(compiled(jax.devices()[:4], samples)) == ["finish"]


@pytest.mark.thorough
@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="needs the TPU's compiler")
def test_on_eight_chips_of_a_tpu_too():
    from jax.experimental import topologies

    chips = topologies.get_topology_desc("v5e:2x4", platform="tpu").devices
    assert communicating(compiled(np.array(chips).ravel().tolist(), 4)) == ["finish"]
