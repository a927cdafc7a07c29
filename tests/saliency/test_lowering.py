"""Programs of the derivatives lower for GPU and TPU, to operations that are fast there."""

from __future__ import annotations

import re
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.thorough import thorough_except

from jaxsal.current_device import tracing_for
from jaxsal.nets.registry import NetworkFunction, config_from_arguments, parameter_shapes
from jaxsal.saliency.books import Book
from jaxsal.saliency.derivative import DenseDerivative, LocalDerivative, derivative_of

ITEMS = 2
CHANNELS = {"in_channels": 2, "out_channels": 2}
NETWORKS: dict[str, tuple[int, dict[str, Any]]] = {  # side of the window, arguments
    "unet": (16, {"norm": "batch", "channels": (4, 6, 8), "strides": (2, 2)}),
    "dynunet": (
        16,
        {
            "kernel_size": (3, 3, 3),
            "strides": (1, 2, 2),
            "upsample_kernel_size": (2, 2),
            "filters": (4, 6, 8),
            "norm_name": "instance",
            "act_name": "leakyrelu",
        },
    ),
    "swin-unetr": (32, {"feature_size": 12, "depths": (1, 1, 1, 1)}),
}
CASES = [("unet", "local"), ("unet", "dense"), ("dynunet", "dense"), ("swin-unetr", "dense")]


class Device(NamedTuple):
    """Of a device, all that the choice of forms asks."""

    platform: str


GPU, TPU = Device("gpu"), Device("tpu")
PLATFORMS = {GPU: "cuda", TPU: "tpu"}
KINDS = {"local": LocalDerivative, "dense": DenseDerivative}


@cache
def lowered(network, kind, device, precision="float32"):
    """The text of each program, at a window of one image and two items."""
    side, arguments = NETWORKS[network]
    window = (side, side, side)
    config = config_from_arguments(network, {**CHANNELS, **arguments})
    function = NetworkFunction(config, precision)
    shapes = {
        name: jax.ShapeDtypeStruct(shape, jnp.float32)
        for name, shape in parameter_shapes(config).items()
    }
    windows = jax.ShapeDtypeStruct((1, *window, 2), jnp.float32)
    shapes_of_book = ((4, ITEMS), (4, ITEMS), (4, ITEMS, 3), (4, 2), (4, ITEMS, 4))
    book = Book(
        *(jax.ShapeDtypeStruct(shape, jnp.int32) for shape in shapes_of_book),
        jax.ShapeDtypeStruct((4, ITEMS), jnp.float32),
    )
    batch = jax.ShapeDtypeStruct((), jnp.int32)
    with tracing_for(device):
        found = derivative_of(function, shapes, 1, windows.shape, single=kind == "local")
        assert isinstance(found, KINDS[kind])
        pulled = (
            jax.eval_shape(found.prepare, shapes),
            jax.eval_shape(found.linearise, shapes, windows),
            jax.eval_shape(found.cotangents, book, batch),
        )
        programs = {
            "forward": (function, shapes, windows),
            "prepare": (found.prepare, shapes),
            "linearise": (found.linearise, shapes, windows),
            "cotangents": (found.cotangents, book, batch),
            "pull_back": (found.pull_back, *pulled),
        }
        return {name: text(device, *program) for name, program in programs.items()}


def text(device, program, *arguments):
    traced = jax.jit(lambda *given: program(*given)).trace(*arguments)
    return traced.lower(lowering_platforms=(PLATFORMS[device],)).as_text()


def products(program):
    """The lines of its convolutions and matrix products."""
    lines = program.splitlines()
    return [line for line in lines if re.search(r"stablehlo\.(convolution|dot_general)", line)]


def dilation(side, line):
    return set(map(int, re.search(rf"{side}_dilate = \[([\d, ]+)\]", line)[1].split(",")))


@pytest.mark.parametrize("device", PLATFORMS, ids=str)
@pytest.mark.parametrize(("network", "kind"), thorough_except(CASES, *CASES[:3]))
def test_float32_is_float32_in_every_product(network, kind, device):
    programs = lowered(network, kind, device)
    for name in ("forward", "linearise", "pull_back"):
        found = products(programs[name])
        assert found
        for line in found:
            assert len(re.findall(r"\bHIGHEST\b", line)) == 2, (name, line)  # of both factors
    assert not products(programs["cotangents"])


@pytest.mark.parametrize(("network", "kind"), thorough_except(CASES, *CASES[:3]))
def test_dilated_convolutions_on_a_gpu_are_pull_backs(network, kind):
    """A reversed kernel tells XLA so, which then calls cuDNN's own pull-back of a convolution."""
    for program in lowered(network, kind, GPU).values():
        made_by: dict[str, str] = {}
        for line in program.splitlines():
            if made := re.match(r"\s*(%\w+) = (?:stablehlo|call)\S*", line):
                made_by[made[1]] = line
            convolution = re.search(r"stablehlo\.convolution\((%\w+), (%\w+)\)", line)
            if convolution is None:
                continue
            assert dilation("rhs", line) == {1}
            if dilation("lhs", line) != {1}:
                assert "stablehlo.reverse" in made_by[convolution[2]], line


def test_a_local_pull_back_on_a_tpu_gathers_nothing():
    programs = lowered("unet", "local", TPU)
    assert "gather" not in programs["pull_back"]
    assert "while" in programs["pull_back"]  # voxel by voxel
    assert "gather" in lowered("unet", "local", GPU)["pull_back"]  # there it is fused


def test_kernels_are_laid_out_once_for_a_gpu():
    programs = lowered("unet", "local", GPU)
    assert "tensor<6x4x3x3x3xf32>" in programs["prepare"].partition("return")[0]


@pytest.mark.parametrize("device", [GPU, TPU])
def test_voxels_near_edges_have_programs_of_their_own_but_on_tpus(device):
    arguments = {"norm": "batch", "channels": (3, 4), "strides": (2,), "kernel_size": 3}
    config = config_from_arguments("unet", {**CHANNELS, **arguments})
    shapes = {
        name: jax.ShapeDtypeStruct(shape, jnp.float32)
        for name, shape in parameter_shapes(config).items()
    }
    with tracing_for(device):
        local = derivative_of(NetworkFunction(config), shapes, 1, (1, 16, 16, 16, 2), single=True)
        near, inside = local.edges(np.array([[0, 8, 15], [8, 8, 8]]))
    assert near.tolist() == [device is GPU, False, device is GPU]
    assert not inside.any()
