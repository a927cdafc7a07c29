"""Pulled back through boxes, a voxel's gradient is what it is through the whole window."""

from __future__ import annotations

from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.thorough import thorough_except
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxsal import Model
from jaxsal.current_device import current_device, tracing_for
from jaxsal.locality.boxes import Boxes
from jaxsal.locality.linear import kernels_of, linearise, pull_back
from jaxsal.locality.structure import structure_of
from jaxsal.nets.registry import config_from_arguments

PLAIN = {"in_channels": 2, "out_channels": 2, "channels": (3, 4, 5), "strides": (2, 2)}
NETWORKS: dict[str, dict[str, Any]] = {
    "paper's": {"norm": "batch"},
    "residual units": {"norm": "batch", "num_res_units": 2, "act": "relu"},
    "strides and kernels per axis": {
        "norm": None,
        "num_res_units": 1,
        "strides": ((1, 2, 3), (2, 2, 1)),
        "kernel_size": (5, 3, 1),
        "act": ("leakyrelu", {"negative_slope": 0.2}),
    },
    "wide up-sampling, smooth activation": {
        "norm": "batch",
        "up_kernel_size": (5, 7, 3),
        "act": "swish",
        "adn_ordering": "AN",
    },
    "one level": {"channels": (3, 4), "strides": (2,), "norm": "batch", "out_channels": 1},
    "one level of all": {
        "channels": (3, 4),
        "strides": ((2, 1, 3),),
        "kernel_size": (3, 1, 5),
        "up_kernel_size": (5, 7, 3),
        "norm": "batch",
        "num_res_units": 1,
        "act": "swish",
        "adn_ordering": "AN",
    },
}
SAMPLES = 2


class Device(NamedTuple):
    """Of a device, all that the choice of forms asks."""

    platform: str


# float32 rounding: other summation orders only.
TOLERANCE = 2e-6


class Case:
    """A network on small windows, its gradients by plain reverse mode and through boxes."""

    def __init__(self, name: str, precision: str = "float32", device: Any = None) -> None:
        config = config_from_arguments("unet", {**PLAIN, **NETWORKS[name]})
        model = Model.initialise(config, ("flair", "t1"), seed=3).with_precision(precision)
        self.target = config.out_channels - 1
        self.size = tuple(d * n for d, n in zip(model.divisor, (6, 5, 4), strict=True))
        key = jax.random.key(1)
        self.images = jax.random.normal(key, (SAMPLES, *self.size, 2))
        structure = structure_of(model.function, model.parameters, self.images.shape)
        assert structure is not None
        self.boxes = Boxes(structure)
        with tracing_for(device or current_device()):
            kernels = jax.jit(partial(kernels_of, structure))(model.parameters)
            slopes = jax.jit(partial(linearise, structure))(model.parameters, self.images)
        slots = tuple(jnp.stack([jnp.full_like(slope, jnp.nan), slope]) for slope in slopes)
        self._device = device
        self._through_boxes = jax.jit(
            lambda positions, weights: pull_back(
                structure,
                self.boxes,
                kernels,
                slots,
                jnp.ones(len(positions), int),
                positions,
                weights,
                self.target,
            )
        )

        @jax.jit
        def through_window(positions, weights):
            def logits(images):
                return model.function(model.parameters, images)[..., self.target]

            _, pull = jax.vjp(logits, self.images)

            def gradient(position, weight):
                x, y, z = position
                cotangent = jnp.zeros((SAMPLES, *self.size)).at[:, x, y, z].set(weight)
                return pull(cotangent)[0]

            return jax.vmap(gradient)(positions, weights)

        self.through_window = through_window

    def through_boxes(self, positions, weights):
        with tracing_for(self._device or current_device()):
            values = np.asarray(self._through_boxes(positions, weights))
        full = np.zeros((len(positions), *self.images.shape), np.float32)
        for one, value, position in zip(full, values, np.asarray(positions), strict=True):
            starts = [t[p] for t, p in zip(self.boxes.starts[0], position, strict=True)]
            box = [slice(s, s + n) for s, n in zip(starts, self.boxes.sizes[0], strict=True)]
            one[:, *box] = value
        return full


@cache
def made(name, platform=None):
    return Case(name, device=platform and Device(platform))


def some_positions(case):
    x, y, z = case.size
    corners = [(0, 0, 0), (x - 1, y - 1, z - 1), (0, y - 1, 0), (x - 1, 0, z // 2)]
    inner = np.random.default_rng(0).integers(0, case.size, (8, 3)).tolist()
    return jnp.asarray([*corners, *inner])


# Quick: the paper's two levels, and in one level residual units, a kernel and a stride per axis,
# wide up-sampling, and a smooth activation before the norm.
@pytest.mark.parametrize("name", thorough_except(NETWORKS, "paper's"))
def test_boxes_give_the_gradient_of_the_whole_window_everywhere(name):
    case = made(name)
    positions = some_positions(case)
    weights = jnp.linspace(-1.0, 2.0, len(positions))
    expected = np.asarray(case.through_window(positions, weights))
    found = case.through_boxes(positions, weights)
    assert np.abs(found - expected).max() <= TOLERANCE * np.abs(expected).max()


ELSEWHERE = [(name, platform) for name in NETWORKS for platform in ("gpu", "tpu")]


@pytest.mark.parametrize(
    ("name", "platform"),
    thorough_except(ELSEWHERE, ("one level of all", "gpu"), ("one level of all", "tpu")),
)
def test_as_on_an_accelerator(name, platform):
    case = made(name, platform)
    positions = some_positions(case)
    weights = jnp.linspace(-1.0, 2.0, len(positions))
    expected = np.asarray(made(name).through_window(positions, weights))
    found = case.through_boxes(positions, weights)
    assert np.abs(found - expected).max() <= TOLERANCE * np.abs(expected).max()


@pytest.fixture(scope="module")
def paper():
    return made("paper's")


@given(st.data())
@settings(max_examples=40)
def test_any_voxel_at_any_phase_of_the_strides(paper, data):
    position = [data.draw(st.integers(0, n - 1)) for n in paper.size]
    positions, weights = jnp.asarray([position]), jnp.ones(1)
    expected = np.asarray(paper.through_window(positions, weights))
    found = paper.through_boxes(positions, weights)
    assert np.abs(found - expected).max() <= TOLERANCE * np.abs(expected).max()


@pytest.mark.thorough
def test_bfloat16_is_pulled_back_in_bfloat16():
    case = Case("one level", "bfloat16")
    positions, weights = jnp.asarray([[9, 9, 7]]), jnp.ones(1)
    expected = np.asarray(case.through_window(positions, weights))
    found = case.through_boxes(positions, weights)
    assert 1e-5 < np.abs(found - expected).max() / np.abs(expected).max() < 0.05


def test_boxes_are_smaller_than_the_window_where_the_window_is_large():
    model = Model.initialise(config_from_arguments("unet", {**PLAIN, "norm": "batch"}), ("a", "b"))
    structure = structure_of(model.function, model.parameters, (1, 64, 64, 64, 2))
    assert Boxes(structure).sizes[0] == model.receptive_field


def test_boxes_for_voxels_near_an_edge_are_smaller(paper):
    structure = structure_of_paper()
    near = [np.arange(n) < 3 for n in structure.nodes[0].grid]
    small, full = Boxes(structure, near).sizes[0], Boxes(structure).sizes[0]
    assert all(a < b for a, b in zip(small, full, strict=True))


def structure_of_paper():
    model = Model.initialise(config_from_arguments("unet", {**PLAIN, "norm": "batch"}), ("a", "b"))
    return structure_of(model.function, model.parameters, (1, 32, 32, 32, 2))
