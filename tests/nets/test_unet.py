"""The U-Net: its receptive field and its checks; `test_contract` compares it with MONAI's."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxsal.errors import InputError
from jaxsal.nets.registry import NetworkFunction, build, split
from jaxsal.nets.unet_config import UNetConfig
from jaxsal.types import Reach

FAST_COMPILATION = {"xla_backend_optimization_level": 0}  # compiling is most of a test's time
PLAIN = {"in_channels": 2, "out_channels": 2, "channels": (4, 6), "strides": (2,)}

LOCAL = {
    "plain": {"norm": "batch", "strides": (2, 2)},
    "residual, per axis": {
        "norm": None,
        "num_res_units": 1,
        "strides": ((1, 2, 3), (2, 2, 1)),
        "kernel_size": (5, 3, 3),
    },
    "wide up-sampling kernel": {"norm": "batch", "up_kernel_size": (5, 7, 3), "strides": (2, 1)},
}


@pytest.mark.parametrize("changes", LOCAL.values(), ids=LOCAL)
def test_reach_is_the_box_of_non_zero_gradient(changes: dict[str, Any]) -> None:
    arguments = {**PLAIN, "channels": (2, 2, 2), **changes}
    config = UNetConfig.from_arguments(arguments)
    function = NetworkFunction(config)
    voxels = np.arange(22, 28)[:, None] + np.array([[0, 1, 3]])  # all phases of the strides
    size = tuple(-(-52 // d) * d for d in config.divisor)

    @partial(jax.jit, compiler_options=FAST_COMPILATION)
    def gradients(parameters):
        batch = jnp.ones((1, *size, 2))
        _, pull = jax.vjp(lambda b: function(parameters, b), batch)

        def gradient(voxel):
            cotangent = jnp.zeros((1, *size, 2)).at[0, *voxel, 0].set(1.0)
            return pull(cotangent)[0][0].sum(-1)

        return jax.lax.map(gradient, voxels)

    for voxel, gradient in zip(voxels, gradients(positive_parameters(config)), strict=True):
        reach = function.reach(Reach(voxel, voxel))
        assert reach is not None
        assert min(reach.first) > 0
        assert all(reach.last < np.array(size) - 1)
        touched = np.argwhere(np.asarray(gradient) != 0)
        np.testing.assert_array_equal(touched.min(0), reach.first)
        np.testing.assert_array_equal(touched.max(0), reach.last)


def positive_parameters(config: UNetConfig) -> dict[str, jax.Array]:
    """Weights for which no two paths through the network cancel."""
    return jax.jit(
        lambda: {k: jnp.abs(v) + 0.1 for k, v in split(build(config, nnx.Rngs(0))).items()}
    )()


@pytest.mark.parametrize(
    "norm",
    ["instance", ("group", {"num_groups": 2}), ("layer", {"normalized_shape": 8})],
    ids=lambda norm: norm if isinstance(norm, str) else norm[0],
)
def test_norms_over_positions_of_the_volume_have_no_finite_reach(norm: Any) -> None:
    config = UNetConfig.from_arguments({**PLAIN, "norm": norm})
    voxel = np.zeros(3, int)
    assert NetworkFunction(config).reach(Reach(voxel, voxel)) is None


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"channels": [4]}, "channels"),
        ({"channels": 4}, "channels"),
        ({"strides": []}, "strides"),
        ({"strides": [0]}, "strides"),
        ({"strides": [[2, 2]]}, "strides"),
        ({"kernel_size": 4}, "kernel_size"),
        ({"up_kernel_size": [3, 3]}, "up_kernel_size"),
        ({"num_res_units": -1}, "num_res_units"),
        ({"in_channels": 1.5}, "in_channels"),
        ({"act": "sine"}, "act"),
        ({"act": ["relu", {"slope": 1}]}, "slope"),
        ({"act": ["leakyrelu", {"negative_slope": {"a": 1}}]}, "negative_slope"),
        ({"act": 3}, "act"),
        ({"norm": []}, "norm"),
        ({"norm": "group"}, "num_groups"),
        ({"norm": ["group", {"num_groups": 4}]}, "num_groups"),
        ({"norm": ["group", {"num_groups": 0}]}, "num_groups"),
        ({"norm": ["layer", {"normalized_shape": [4, "a"]}]}, "normalized_shape"),
        ({"act": ["prelu", {"num_parameters": 4}]}, "num_parameters"),
        ({"norm": "spectral"}, "norm"),
        ({"norm": ["batch", {"track_running_stats": False}]}, "norm"),
        ({"dropout": 1}, "dropout"),
        ({"dropout": ["dropout"], "norm": 2}, "norm"),
        ({"dropout": [0.2, 0.3]}, "dropout"),
        ({"bias": "no"}, "bias"),
        ({"adn_ordering": "NDX"}, "adn_ordering"),
        ({"spatial_dims": 2}, "spatial_dims"),
        ({"depth": 5}, "depth"),
    ],
    ids=str,
)
def test_unsupported_arguments_are_named(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError, match=named):
        UNetConfig.from_arguments({**PLAIN, **changes})


def test_missing_arguments_are_named() -> None:
    with pytest.raises(InputError, match="strides"):
        UNetConfig.from_arguments({"in_channels": 1, "out_channels": 2, "channels": [2, 3]})
