"""Exported networks equal their PyTorch source: logits, gradients, the outputs of modules."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from helpers import peers
from helpers.exported import exported
from helpers.network_cases.case import randomised
from helpers.peers import ROI, monai_network
from monai.networks.nets import UNet
from torch import nn

from jaxsal import InputError, Model, load_model, save_model, sliding_window, smoothgrad
from jaxsal.graph.config import GraphConfig
from jaxsal.graph.program import Graph
from jaxsal.locality.structure import structure_of
from jaxsal.nets.registry import NetworkFunction, layer_shapes, merge

pytestmark = pytest.mark.usefixtures("xla_convolutions")
SIZE = (8, 4, 8)
CHANNELS_LAST, CHANNELS_FIRST = (0, 2, 3, 4, 1), (0, 4, 1, 2, 3)


class Pyramid(nn.Module):
    """Pooling, interpolation, joins, and a norm over positions."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv3d(2, 4, 3, padding=1), nn.GroupNorm(2, 4), nn.GELU())
        self.pool = nn.MaxPool3d(2)
        self.deep = nn.Sequential(nn.Conv3d(4, 6, 3, padding="same"), nn.InstanceNorm3d(6))
        self.act = nn.LeakyReLU()
        self.up = nn.Upsample(scale_factor=2, mode="trilinear")
        self.last = nn.Conv3d(10, 3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skip = self.first(x)
        return self.last(torch.cat([self.up(self.act(self.deep(self.pool(skip)))), skip], 1))


class Attention(nn.Module):
    """A transformer block on patches, which has the channels last."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv3d(2, 8, 2, stride=2)
        self.norm = nn.LayerNorm(8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.mix = nn.Linear(8, 8)
        self.up = nn.ConvTranspose3d(8, 2, 2, stride=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.embed(x)
        y = self.norm(x.permute(0, 2, 3, 4, 1))
        tokens = y.flatten(1, 3)
        tokens = tokens + self.attention(tokens, tokens, tokens, need_weights=False)[0]
        y = self.mix(tokens.reshape(y.shape))
        return self.up(y.permute(0, 4, 1, 2, 3))


NETWORKS_3D = {
    "unet": partial(UNet, 3, 2, 2, (4, 6, 8), (2, 2), num_res_units=1, norm="batch"),
    "pyramid": Pyramid,
    "attention": Attention,
}


@lru_cache
def source(name: str) -> nn.Module:
    torch.manual_seed(0)
    return randomised(NETWORKS_3D[name]()).double()


@lru_cache
def converted(name: str, **options: Any) -> tuple[Graph, dict[str, np.ndarray]]:
    image = torch.zeros(1, 2, *SIZE, dtype=torch.float64)
    return exported(source(name), image, **options)


def logits_of(parameters: Any, batch: Any, *, graph: Graph) -> Any:
    """Without the rounding to float32."""
    return merge(GraphConfig(graph), parameters)(batch)[0]


def image_of(examples: int = 1) -> np.ndarray:
    return np.random.default_rng(3).standard_normal((examples, *SIZE, 2))


def to_torch(batch: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(batch.transpose(CHANNELS_FIRST).copy())


def close(ours: Any, theirs: torch.Tensor, tolerance: float) -> None:
    expected = theirs.detach().numpy()
    scale = np.abs(expected).max()
    assert scale > 0
    np.testing.assert_allclose(ours, expected, rtol=0, atol=tolerance * scale)


def singles(parameters: Any) -> Any:
    return {name: array.astype(np.float32) for name, array in parameters.items()}


def pulled(graph: Graph, parameters: Any, batch: Any, zeros: Any, *, voxel: Any) -> Any:
    """Logits, activations, the gradient of one logit, and its pull-backs to all layers."""

    def forward(batch: Any, perturbations: Any) -> Any:
        return merge(GraphConfig(graph), parameters)(batch, perturbations)

    logits, pull, activations = jax.vjp(forward, batch, zeros, has_aux=True)
    return logits, activations, *pull(jnp.zeros_like(logits).at[voxel].set(1))


@pytest.mark.parametrize("name", NETWORKS_3D)
def test_logits_gradients_and_outputs_of_modules_equal_the_source(name: str) -> None:
    network, batch = source(name), image_of()
    outputs: dict[str, torch.Tensor] = {}
    hooks = [
        module.register_forward_hook(lambda _, __, out, path=path: outputs.update({path: out}))
        for path, module in network.named_modules()
        if path and not isinstance(module, nn.Identity)
    ]
    x = to_torch(batch).requires_grad_()
    logits = network(x)
    for hook in hooks:
        hook.remove()
    voxel = (0, 3, 2, 5, 1)
    with jax.enable_x64(True):
        graph, parameters = converted(name)
        shapes = layer_shapes(GraphConfig(graph))
        zeros = {layer: jnp.zeros((1, *shape)) for layer, shape in shapes.items()}
        run = jax.jit(partial(pulled, graph, voxel=voxel))
        ours, activations, gradient, pull_backs = run(parameters, batch, zeros)
    picked = logits.permute(CHANNELS_LAST)[voxel]
    spatial = {k: v for k, v in outputs.items() if isinstance(v, torch.Tensor) and v.ndim == 5}
    grads = torch.autograd.grad(picked, [x, *spatial.values()], allow_unused=True)
    close(ours, logits.permute(CHANNELS_LAST), 1e-11)
    close(gradient, grads[0].permute(CHANNELS_LAST), 1e-11)
    compared = 0
    for (path, theirs), grad in zip(spatial.items(), grads[1:], strict=True):
        last = theirs.shape[-1] == activations[path].shape[-1] and name == "attention"
        order = (0, 1, 2, 3, 4) if last and path in ("norm", "mix") else CHANNELS_LAST
        close(activations[path], theirs.permute(order), 1e-11)
        close(pull_backs[path], grad.permute(order), 1e-11)
        compared += 1
    assert compared >= 4


@pytest.mark.parametrize("name", ["pyramid", "attention"])
def test_core_operations_compute_the_same(name: str) -> None:
    batch = image_of()
    with jax.enable_x64(True):
        graph, parameters = converted(name, decompositions=None)
        assert not {"aten.conv3d.default", "aten.linear.default"} & {
            n.operation for n in graph.nodes
        }
        ours = jax.jit(logits_of, static_argnames="graph")(parameters, batch, graph=graph)
    close(ours, source(name)(to_torch(batch)).permute(CHANNELS_LAST), 1e-11)


def test_examples_are_computed_one_by_one_where_the_graph_takes_one() -> None:
    batch = image_of(2)
    with jax.enable_x64(True):
        graph, parameters = converted("attention", batch="one")
        ours = jax.jit(logits_of, static_argnames="graph")(parameters, batch, graph=graph)
    close(ours, source("attention")(to_torch(batch)).permute(CHANNELS_LAST), 1e-11)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_two_dimensional_network_takes_the_slices_along_an_axis(axis: int) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.ELU(), nn.Conv2d(4, 3, 3, padding=1))
    batch = np.random.default_rng(3).standard_normal((2, 4, 5, 6, 2), np.float32)
    plane = [n for place, n in enumerate(batch.shape[1:4]) if place != axis]
    graph, parameters = exported(network, torch.zeros(2, 2, *plane), slice_axis=axis)
    config = GraphConfig(graph)
    assert config.fixed_size[axis] == config.divisor[axis] == 1
    thin = np.take(batch, [2], 1 + axis)
    ours = jax.jit(NetworkFunction(config))(parameters, thin)
    theirs = network(torch.from_numpy(np.moveaxis(np.take(batch, 2, 1 + axis), -1, 1).copy()))
    close(np.take(np.asarray(ours), 0, 1 + axis), theirs.permute(0, 2, 3, 1), 1e-5)


def test_half_precision_computes_in_half_precision() -> None:
    graph, parameters = converted("pyramid")
    batch = image_of().astype(np.float32)
    function = NetworkFunction(GraphConfig(graph), "bfloat16")
    logits, activations = jax.jit(function.with_activations)(parameters, batch)
    assert {value.dtype.name for value in activations.values()} == {"bfloat16"}
    close(logits, source("pyramid")(to_torch(image_of())).permute(CHANNELS_LAST), 0.1)


def test_a_batch_norm_network_is_local_with_the_structure_of_the_native_one() -> None:
    graph, parameters = exported(monai_network("short"), torch.zeros(1, 2, *ROI))
    native, shape = peers.converted("short"), (1, *ROI, 2)
    ours = structure_of(NetworkFunction(GraphConfig(graph)), parameters, shape)
    theirs = structure_of(native.function, native.parameters, shape)
    assert ours is not None
    assert len(ours.pointwise) == len(theirs.pointwise)
    for name in ("grid", "joins", "signs", "sources"):
        assert [getattr(n, name) for n in ours.nodes] == [getattr(n, name) for n in theirs.nodes]


def test_its_maps_are_those_of_the_native_network() -> None:
    graph, parameters = exported(monai_network("short"), torch.zeros(1, 2, *ROI))
    native = peers.converted("short")
    model = Model(GraphConfig(graph), parameters, native.channels, native.threshold)
    image = np.random.default_rng(0).standard_normal((*ROI, 2), np.float32)
    labels = np.zeros(ROI, np.int32)
    labels[7:9, 8, 5:7] = 1
    maps, expected = (
        smoothgrad(sliding_window(one, roi=ROI), image, labels, samples=1)
        for one in (model, native)
    )
    assert maps.crop(1).box == expected.crop(1).box
    peak = np.abs(expected.dense(1)).max()
    np.testing.assert_allclose(maps.dense(1), expected.dense(1), rtol=0, atol=1e-5 * peak)


def test_a_model_of_a_graph_is_saved_and_loaded(tmp_path: Path) -> None:
    graph, parameters = converted("attention")
    model = Model(GraphConfig(graph), parameters, ("flair", "t1"))
    save_model(model, tmp_path / "model")
    again = load_model(tmp_path / "model")
    assert again.config == model.config
    batch = image_of().astype(np.float32)
    np.testing.assert_array_equal(again(batch), model(batch))


def test_fresh_parameters_are_those_of_the_graph() -> None:
    graph, parameters = converted("unet")
    fresh = Model.initialise(GraphConfig(graph), ("flair", "t1")).parameters
    assert {k: v.shape for k, v in fresh.items()} == {k: v.shape for k, v in parameters.items()}
    slope = next(name for name in fresh if name.endswith("adn.A.weight"))
    assert float(fresh[slope][0]) == 0.25
    assert float(np.std(fresh["model.0.conv.unit0.conv.weight"])) > 0.05


def test_images_of_another_size_are_refused() -> None:
    graph, parameters = converted("unet")
    function = NetworkFunction(GraphConfig(graph))
    with pytest.raises(InputError, match=r"images of 8 × 4 × 8 voxels only.* got 8 × 8 × 8"):
        function(parameters, jnp.zeros((1, 8, 8, 8, 2)))


def test_sizes_that_do_not_go_together_are_refused_with_the_place() -> None:
    graph, parameters = converted("attention")
    free = replace(graph, size=(None, None, None), divisor=(8, 4, 8))
    function = NetworkFunction(GraphConfig(free))
    with pytest.raises(InputError, match=r"aten\.\w+\.default in .* cannot be computed"):
        jax.eval_shape(function, singles(parameters), jnp.zeros((1, 16, 8, 8, 2)))


def test_operations_that_are_not_known_are_refused() -> None:
    record = converted("unet")[0].to_json()
    record["nodes"][0]["operation"] = "aten.fft.default"
    with pytest.raises(InputError, match=r"does not know: aten\.fft\.default"):
        GraphConfig.from_arguments(record)


def test_the_summary_counts_operations() -> None:
    assert "8 conv3d" in GraphConfig(converted("unet")[0]).summary
