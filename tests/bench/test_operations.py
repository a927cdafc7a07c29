"""Operations counted by hand are those of the networks: by their shapes, by PyTorch, and by XLA."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import pytest
import torch
from flax import nnx
from helpers.thorough import thorough_except
from torch.utils.flop_counter import FlopCounterMode

from bench.architectures import operations_of
from bench.case import CHANNELS, PAPER_UNET, random_parameters
from bench.ceilings import Ceilings
from bench.nets import PAPER_NETWORKS
from bench.operations import Effort, attention, norm, total
from bench.pytorch.network import torch_network
from bench.work import dense_work, forward_work, gradient_work, local_work, pull_back_work
from jaxsal.errors import InputError
from jaxsal.model import Model
from jaxsal.nets.blocks import InstanceNorm
from jaxsal.nets.registry import config_from_arguments, parameter_shapes

# Windows of attention that need no padding: PyTorch projects what was padded, jaxsal does not.
NARROW = {
    "unet": PAPER_UNET | {"channels": [4, 6, 8], "strides": [2, 2]},
    "dynunet": PAPER_NETWORKS["dynunet"].arguments | {"filters": [4, 6, 8]},
    "swin-unetr": {
        **PAPER_NETWORKS["swin-unetr"].arguments,
        **{"feature_size": 12, "window_size": 4},
    },
}


def model_of(kind: str) -> Model:
    config = config_from_arguments(kind, NARROW[kind])
    return Model(config, random_parameters(config, 0), CHANNELS)


@pytest.mark.parametrize("name", thorough_except(PAPER_NETWORKS, "unet", "dynunet"))
def test_sizes_and_weights_are_those_of_the_papers_networks(name):
    config = PAPER_NETWORKS[name].config()
    operations = operations_of(config, (96, 96, 96))
    shapes = parameter_shapes(config)
    structs = {n: jax.ShapeDtypeStruct(s, jnp.float32) for n, s in shapes.items()}
    batch = jax.ShapeDtypeStruct((1, 96, 96, 96, 2), jnp.float32)
    activations: dict[str, Any] = jax.eval_shape(
        lambda p, x: Model(config, p, CHANNELS).activations(x)[1], structs, batch
    )
    found = {operation.name: operation for operation in operations}
    assert len(found) == len(operations)
    known = found.keys() & activations.keys()
    assert {n: found[n].outputs for n in known} == {
        n: math.prod(activations[n].shape) for n in known
    }
    unknown = {n for n in found.keys() - known if ".attention." not in n}
    assert {n.rpartition(".")[2] for n in unknown} <= {"output"}  # as its block is called
    counted = sum(operation.weights for operation in operations)
    folded = sum(
        math.prod(shape)
        for n, shape in shapes.items()
        if "position_bias" in n or (name == "unet" and ".norm." in n)
    )
    assert counted + folded == sum(map(math.prod, shapes.values()))


@pytest.mark.parametrize("kind", thorough_except(NARROW, "unet", "dynunet"))
def test_products_are_those_that_pytorch_counts(kind):
    model = model_of(kind)
    window = (64, 32, 32)  # PyTorch has no instance norm of a single position
    operations = operations_of(model.config, window)
    network = torch_network(model).requires_grad_(False)
    image = torch.randn(1, 2, *window, requires_grad=True)
    with FlopCounterMode(display=False) as forward:
        logit = network(image)[0, 1, 16, 16, 16]
    assert sum(o.forward.flops for o in operations) == forward.get_total_flops()
    with FlopCounterMode(display=False) as back:
        torch.autograd.grad(logit, image)
    assert sum(o.back.flops for o in operations) == back.get_total_flops()


def flops_by_xla(function: Callable[..., Any], *arguments: Any) -> float:
    return float(jax.jit(function).lower(*arguments).cost_analysis()["flops"])


def pull_back_by_xla(function: Callable[..., Any], *arguments: Any) -> float:
    """To the last argument."""
    *others, x = arguments
    y, pull_back = jax.eval_shape(lambda *a: jax.vjp(partial(function, *a[:-1]), a[-1]), *others, x)
    return flops_by_xla(lambda pull_back, y: pull_back(y), pull_back, y)


VALUES = jax.ShapeDtypeStruct((1, 16, 16, 16, 8), jnp.float32)


@pytest.mark.parametrize("affine", [False, True])
def test_steps_of_norms_are_those_that_xla_counts(affine):
    graph, state = nnx.split(InstanceNorm(8, epsilon=1e-5, affine=affine))

    def normalised(state: nnx.State, x: jax.Array) -> jax.Array:
        return nnx.merge(graph, state)(x)

    counted = norm("", math.prod(VALUES.shape), 8 if affine else 0)
    found = flops_by_xla(normalised, state, VALUES)
    assert found == pytest.approx(counted.forward.steps, rel=0.03)  # means of rows are divided, too
    back = pull_back_by_xla(normalised, state, VALUES)
    assert back == pytest.approx(counted.back.steps, rel=0.35)  # it counts more of them


def attended(heads: int, x: jax.Array) -> jax.Array:
    """Of queries, keys and values (W, P, 3, C)."""
    windows, positions, _, channels = x.shape
    query, key, value = jnp.moveaxis(
        x.reshape(windows, positions, 3, heads, channels // heads), 2, 0
    )
    scores = jnp.einsum("wphc,wqhc->whpq", query * 0.5, key) + 1.0
    return jnp.einsum("whpq,wqhc->wphc", jax.nn.softmax(scores), value)


def test_operations_of_attention_are_those_that_xla_counts():
    windows, positions, channels, heads = 3, 27, 12, 3
    x = jax.ShapeDtypeStruct((windows, positions, 3, channels), jnp.float32)
    counted = attention("", windows, positions, channels, heads)
    for work, found in (
        (counted.forward, flops_by_xla(partial(attended, heads), x)),
        (counted.back, pull_back_by_xla(partial(attended, heads), x)),
    ):
        assert found == pytest.approx(work.flops + work.steps, rel=0.1)
        assert work.steps < 0.6 * work.flops  # else the tolerance would hide the products


@pytest.mark.thorough
@pytest.mark.parametrize("kind", NARROW)
def test_all_operations_are_about_those_that_xla_counts(kind, xla_convolutions):
    """XLA leaves out the taps on the padding, and counts batch norms."""
    model = model_of(kind)
    batch = jax.ShapeDtypeStruct((1, 32, 32, 32, 2), jnp.float32)
    forward = total(o.forward for o in operations_of(model.config, (32, 32, 32)))
    found = flops_by_xla(lambda p, x: model.function(p, x), model.parameters, batch)
    assert found == pytest.approx(forward.flops + forward.steps, rel=0.1)


def test_shares_are_of_the_ceilings():
    ceilings = Ceilings("bfloat16", 100e9, 10e9)
    found = ceilings.shares(Effort(flops=20e9, values=1e9, weights=32e9), 0.5)
    assert found == {  # 2 GB of values; of the weights a share each, of 32 gradients
        **{"gflop": 20, "mbyte": 4000},
        **{"share_of_peak": 0.4, "share_of_bandwidth": 0.8},
    }
    assert ceilings.shares(None, 0.5) == {}


def test_a_gradient_takes_its_pull_backs_and_its_share_of_the_forward_passes():
    config, window = PAPER_NETWORKS["dynunet"].config(), (32, 32, 32)
    forward, back = forward_work(config, window), dense_work(config, window)
    work = gradient_work(config, window, forwards=0.5, pull_backs=3)
    assert work is not None
    assert work.flops == 0.5 * forward.flops + 3 * back.flops
    assert work.values == 0.5 * forward.values + 3 * back.values


def test_a_local_pull_back_takes_less_than_one_through_the_window():
    config = PAPER_NETWORKS["unet"].config()
    local = pull_back_work(config, (96, 96, 96))
    assert local == local_work(config)
    assert 0.05 < local.flops / dense_work(config, (96, 96, 96)).flops < 0.5


def test_what_is_not_counted_is_left_out():
    residual = config_from_arguments("unet", PAPER_UNET | {"num_res_units": 2})
    with pytest.raises(InputError, match="without residual units"):
        operations_of(residual, (32, 32, 32))
    assert gradient_work(residual, (32, 32, 32), forwards=1) is None
    batch_norm = replace(PAPER_NETWORKS["dynunet"].config(), norm_name=("batch", ()))
    with pytest.raises(InputError, match="not counted with batch norm"):
        operations_of(batch_norm, (32, 32, 32))
