"""By their compiled form: programs communicate only at the end, and copy nothing that is large."""

from __future__ import annotations

import importlib.util
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from jaxsal.saliency.books import Book
from jaxsal.saliency.derivative import DenseDerivative
from jaxsal.saliency.methods.smoothgrad import SmoothGradSettings
from jaxsal.saliency.noise import noisy_images
from jaxsal.saliency.programs import ITEMS, SAMPLES, Programs, device_mesh
from jaxsal.saliency.schedule import FrameMerge
from tests.helpers.optimised import optimised

COLLECTIVES = ("all-gather", "all-reduce", "all-to-all", "collective-", "reduce-scatter")
SIZE, FRAME, MAP = (8, 8, 8), (16, 16, 16), (32, 32, 32)
LESIONS = 8
NONE = (False, False, False)
USED_UP = {"pull_back": 1, "merge": (0, 1), "finish": 0}  # arguments that results take the room of


def network(parameters, batch):
    return jnp.tanh(batch * parameters) + jnp.roll(batch, 1, axis=1) ** 2


def compiled(devices, samples):
    """Every program compiled, by name, on devices over so many samples at once."""
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
    maxima = struct(values, LESIONS * items, rows, *MAP, 1)
    total = struct((), LESIONS, *MAP, 1)
    parameters, samples = struct(()), struct((), LESIONS, dtype=jnp.int32)
    number = struct((), dtype=jnp.int32)
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
    noisy = noisy_images(np.zeros((20, 18, 14, 1), np.float32), SmoothGradSettings(), None)
    calls = {
        "noisy": (
            lambda image, samples: programs.noisy(
                noisy.make, image, noisy.common, samples, (0, 0, 1), (20, 18, 16)
            ),
            *(struct((), 20, 18, 14, 1), struct((SAMPLES,), rows, dtype=jnp.int32)),
        ),
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
            lambda *given: programs.finish(given[0], given[1:3], *given[3:], None),
            *(maxima, total, total, number, number, samples),
        ),
    }
    return {
        name: jax.jit(function, donate_argnums=USED_UP.get(name, ())).lower(*given).compile()
        for name, (function, *given) in calls.items()
    }


def communicating(found):
    texts = {name: program.as_text() for name, program in found.items()}
    return [name for name, text in texts.items() if any(word in text for word in COLLECTIVES)]


def test_neither_frames_nor_maxima_are_copied():
    with optimised():
        found = compiled(jax.devices()[:1], 1)
    frames, maxima = (4 * count * math.prod(size) for count, size in ((5, FRAME), (LESIONS, MAP)))
    room = {"pull_back": frames, "merge": frames, "finish": maxima}
    taken = {name: found[name].memory_analysis().temp_size_in_bytes for name in room}
    assert all(taken[name] < room[name] for name in room), taken


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
