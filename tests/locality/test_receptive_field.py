"""The receptive field read off a network's structure is where gradients are not zero."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.thorough import thorough_except

from jaxsal import Model
from jaxsal.box import Box
from jaxsal.locality.boxes import Boxes, receptive_field
from jaxsal.locality.linear import linearise, pull_back
from jaxsal.locality.structure import structure_of
from jaxsal.nets.registry import NetworkFunction, config_from_arguments

PLAIN = {"in_channels": 2, "out_channels": 2, "channels": (2, 2, 2), "strides": (2, 2)}
LOCAL = {
    "plain": {"norm": "batch"},
    "residual, per axis": {
        "norm": None,
        "num_res_units": 1,
        "strides": ((1, 2, 3), (2, 2, 1)),
        "kernel_size": (5, 3, 3),
    },
    "wide up-sampling kernel": {"norm": "batch", "up_kernel_size": (5, 7, 3), "strides": (2, 1)},
}


def positive_model(**changes: Any) -> Model:
    """Weights for which no two paths through the network cancel."""
    model = Model.initialise(config_from_arguments("unet", {**PLAIN, **changes}), ("flair", "t1"))
    parameters = {name: jnp.abs(value) + 0.1 for name, value in model.parameters.items()}
    return Model(model.config, parameters, model.channels)


@pytest.mark.parametrize("name", thorough_except(LOCAL, "plain"))
def test_it_is_the_box_of_non_zero_gradient(name: str) -> None:
    model = positive_model(**LOCAL[name])
    voxels = np.arange(22, 28)[:, None] + np.array([[0, 1, 3]])  # all phases of the strides
    size = tuple(-(-52 // d) * d for d in model.divisor)

    @jax.jit
    def gradients(parameters):
        batch = jnp.ones((1, *size, 2))
        _, pull = jax.vjp(lambda b: model.function(parameters, b), batch)

        def gradient(voxel):
            cotangent = jnp.zeros((1, *size, 2)).at[0, *voxel, 0].set(1.0)
            return pull(cotangent)[0][0].sum(-1)

        return jax.lax.map(gradient, voxels)

    for voxel, gradient in zip(voxels, gradients(model.parameters), strict=True):
        reach = receptive_field(model.function, model.parameters, Box.at(voxel, (1, 1, 1)))
        assert reach is not None
        assert min(reach.start) > 0
        assert all(np.array(reach.stop) < size)
        assert reach == Box.of(np.asarray(gradient) != 0)


@pytest.mark.parametrize(
    "norm",
    ["instance", ("group", {"num_groups": 2}), ("layer", {"normalized_shape": (8, 8)})],
    ids=lambda norm: norm if isinstance(norm, str) else norm[0],
)
def test_norms_over_positions_of_the_volume_leave_none(norm: Any) -> None:
    function = NetworkFunction(
        config_from_arguments("unet", {**PLAIN, "strides": (1, 1), "norm": norm})
    )
    voxel = np.zeros(3, int)
    parameters = Model.initialise(function.config, ("flair", "t1")).parameters
    assert receptive_field(function, parameters, Box.at(voxel, (1, 1, 1))) is None


class Callable3D:
    """A function with what a `LogitFunction` has."""

    divisor = smallest_size = (1, 1, 1)
    channels = 1

    def __init__(self, call):
        self._call = call

    def __call__(self, parameters, batch):
        return self._call(batch)


@pytest.mark.parametrize(
    ("call", "is_local"),
    [
        (lambda x: jnp.tanh(2 * x) ** 2 + x, True),
        (lambda x: jax.nn.silu(jax.nn.relu(x)), True),
        (lambda x: jax.jit(jnp.exp)(x) - jnp.concatenate([x], -1), True),
        (lambda x: x + x.astype(jnp.int32).astype(jnp.float32), True),
        (lambda x: x - x.mean(), False),
        (lambda x: jnp.roll(x, 1, axis=1), False),
        (lambda x: x * jnp.concatenate([jnp.sin(x)], -1), True),
        (lambda x: jax.lax.cumsum(x, axis=2), False),
        (lambda x: jnp.flip(x, axis=3), False),
        (lambda x: x[..., 0, :], False),
        (lambda x: jnp.zeros_like(x), False),
    ],
)
def test_only_what_stays_in_place_is_local(call, is_local):
    structure = structure_of(Callable3D(call), (), (1, 4, 4, 4, 1))
    assert (structure is not None) == is_local
    if structure is not None:
        images = jax.random.normal(jax.random.key(0), (1, 4, 4, 4, 1))
        position, one = jnp.array([[2, 1, 3]]), jnp.ones(1)
        slots = tuple(slope[None] for slope in linearise(structure, (), images))
        kernels, slot = (None,) * len(structure.nodes), jnp.zeros(1, int)
        found = pull_back(structure, Boxes(structure), kernels, slots, slot, position, one, 0)
        expected = jax.grad(lambda x: call(x)[0, 2, 1, 3, 0])(images)[0, 2, 1, 3, 0]
        assert float(found.sum()) == pytest.approx(float(expected), rel=1e-5)
