"""SwinUNETR's parts equal MONAI's for every window, shift and merging; its settings are checked."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from helpers.network_cases.swin_unetr import MergingUntil14
from monai.networks.nets import swin_unetr as monai

from jaxsal.errors import InputError
from jaxsal.model import Model
from jaxsal.nets.attention import fit_window, relative_positions, window_regions
from jaxsal.nets.blocks import Tap
from jaxsal.nets.registry import NetworkFunction, config_from_arguments, parameter_shapes
from jaxsal.nets.swin_transformer import Merging, TransformerBlock, run_block
from jaxsal.nets.swin_unetr import SwinUNETR
from jaxsal.nets.swin_unetr_config import SwinUNETRConfig
from jaxsal.nets.unet_config import UNetConfig

PLAIN: dict[str, Any] = {"in_channels": 1, "out_channels": 2, "feature_size": 12}
Size = tuple[int, int, int]


def configured(**changes: Any) -> SwinUNETRConfig:
    return SwinUNETRConfig.from_arguments({**PLAIN, **changes})


def assert_close(ours: Any, theirs: torch.Tensor, tolerance: float = 1e-5) -> None:
    expected = theirs.detach().numpy()
    np.testing.assert_allclose(ours, expected, rtol=0, atol=tolerance * np.abs(expected).max())


def as_ours(tensor: torch.Tensor) -> jax.Array:
    return jnp.asarray(tensor.detach().numpy())


def holding(build: Callable[[], Any], values: dict[str, torch.Tensor | None]) -> Any:
    """The module of ours that this builds, with these parameters."""
    graph, variables = nnx.split(nnx.eval_shape(build))
    arrays = {name: as_ours(value) for name, value in values.items() if value is not None}
    filled = [
        (path, variable.replace(arrays.pop(".".join(map(str, path)))))
        for path, variable in nnx.to_flat_state(variables)
    ]
    assert not arrays
    return nnx.merge(graph, nnx.from_flat_state(filled))


def same_blocks(
    window: Size, heads: int, *, shifted: bool, bias: bool = True
) -> tuple[TransformerBlock, monai.SwinTransformerBlock]:
    """A block of ours and MONAI's with the same random weights."""
    torch.manual_seed(0)
    shift = [n // 2 if shifted else 0 for n in window]
    theirs = monai.SwinTransformerBlock(12, heads, window, shift, mlp_ratio=2, qkv_bias=bias)
    for parameter in theirs.parameters():
        parameter.data.normal_(0, 0.5)
    config = configured(
        window_size=window, num_heads=[heads, 1, 1, 1], mlp_ratio=2.0, qkv_bias=bias
    )
    values = {
        "attention_norm.scale": theirs.norm1.weight,
        "attention_norm.bias": theirs.norm1.bias,
        "attention.qkv.kernel": theirs.attn.qkv.weight.T,
        "attention.qkv.bias": theirs.attn.qkv.bias,
        "attention.projection.kernel": theirs.attn.proj.weight.T,
        "attention.projection.bias": theirs.attn.proj.bias,
        "attention.position_bias": theirs.attn.relative_position_bias_table,
        "perceptron_norm.scale": theirs.norm2.weight,
        "perceptron_norm.bias": theirs.norm2.bias,
        "perceptron.hidden.kernel": theirs.mlp.linear1.weight.T,
        "perceptron.hidden.bias": theirs.mlp.linear1.bias,
        "perceptron.output.kernel": theirs.mlp.linear2.weight.T,
        "perceptron.output.bias": theirs.mlp.linear2.bias,
    }
    ours = holding(lambda: TransformerBlock(config, 0, shifted=shifted, rngs=nnx.Rngs(0)), values)
    return ours, theirs


def monai_mask(size: Size, window: Size, *, shifted: bool) -> torch.Tensor:
    fitted, shift = monai.get_window_size(size, window, [n // 2 if shifted else 0 for n in window])
    padded = [-(-n // w) * w for n, w in zip(size, fitted, strict=True)]
    return monai.compute_mask(padded, fitted, shift, "cpu")


BLOCKS: dict[str, dict[str, Any]] = {
    "windows that divide": {"window": (2, 2, 2), "size": (4, 2, 6), "heads": 1},
    "and shifted": {"window": (2, 2, 2), "size": (4, 4, 6), "heads": 3, "shifted": True},
    "padded": {"window": (3, 3, 3), "size": (4, 5, 7), "heads": 2},
    "padded and shifted": {"window": (3, 3, 3), "size": (4, 5, 7), "heads": 2, "shifted": True},
    "larger than the grid": {"window": (7, 7, 7), "size": (2, 3, 4), "heads": 4, "shifted": True},
    "larger along one axis": {"window": (4, 4, 4), "size": (6, 3, 5), "heads": 2, "shifted": True},
    "as long as the grid": {"window": (3, 2, 5), "size": (3, 4, 5), "heads": 6, "shifted": True},
    "of one voxel": {"window": (1, 3, 1), "size": (2, 5, 3), "heads": 12, "shifted": True},
    "without bias": {"window": (3, 2, 4), "size": (5, 5, 5), "heads": 1, "bias": False},
}


@pytest.mark.parametrize("case", BLOCKS.values(), ids=BLOCKS)
def test_blocks_equal_monai(case: dict[str, Any]) -> None:
    size, shifted = case["size"], case.get("shifted", False)
    bias = case.get("bias", True)
    ours, theirs = same_blocks(case["window"], case["heads"], shifted=shifted, bias=bias)
    outputs: dict[str, torch.Tensor] = {}
    for path, module in theirs.named_modules():
        module.register_forward_hook(partial(_keep, outputs, path))
    x = torch.randn(2, *size, 12, requires_grad=True)
    expected = theirs(x, monai_mask(size, case["window"], shifted=shifted))
    cotangent = torch.randn_like(expected)
    expected.backward(cotangent)

    @jax.jit
    def evaluate(x: jax.Array, cotangent: jax.Array) -> Any:
        def run(x: jax.Array) -> Any:
            tap = Tap()
            return ours(x, tap.under("block")), tap.activations

        y, pull, activations = jax.vjp(run, x, has_aux=True)
        return y, pull(cotangent)[0], activations

    y, gradient, activations = evaluate(as_ours(x), as_ours(cotangent))
    assert_close(y, expected)
    assert_close(gradient, x.grad)
    names = {
        "attention_norm": "norm1",
        "perceptron_norm": "norm2",
        "perceptron.hidden": "mlp.linear1",
        "perceptron.activation": "mlp.fn",
        "perceptron": "mlp",
    }
    for name, path in names.items():
        assert_close(activations[f"block.{name}"], outputs[path])
    assert_close(activations["block.attention"], expected - outputs["mlp"] - x)


def _keep(outputs: dict[str, Any], path: str, _: Any, __: Any, output: Any) -> None:
    outputs[path] = output


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("merging", monai.PatchMerging),
        ("mergingv2", monai.PatchMergingV2),
        ("merging-1.4", MergingUntil14),
    ],
)
def test_mergings_equal_monai(name: str, source: type[monai.PatchMergingV2]) -> None:
    torch.manual_seed(0)
    theirs = source(24)
    for parameter in theirs.parameters():
        parameter.data.normal_()
    values = {
        "norm.scale": theirs.norm.weight,
        "norm.bias": theirs.norm.bias,
        "reduction.kernel": theirs.reduction.weight.T,
    }
    ours = holding(lambda: Merging(configured(downsample=name), 1, nnx.Rngs(0)), values)
    x = torch.randn(2, 4, 6, 2, 24)
    assert_close(jax.jit(lambda x: ours(x, Tap()))(as_ours(x)), theirs(x))


@pytest.mark.parametrize("window", [(2, 2, 2), (3, 1, 4), (7, 7, 7)])
def test_rebuilt_relative_positions_are_those_that_monai_stores(window: Size) -> None:
    stored = monai.WindowAttention(12, 3, window).relative_position_index
    np.testing.assert_array_equal(relative_positions(window), stored.numpy())


@pytest.mark.parametrize("size", [(7, 6, 5), (2, 9, 4), (3, 3, 3)])
def test_regions_are_those_that_monai_keeps_apart(size: Size) -> None:
    window, shift = fit_window(size, (4, 3, 4), shifted=True)
    x, y, z = (-(-n // w) * w for n, w in zip(size, window, strict=True))
    regions = window_regions((x, y, z), window, shift)
    apart = regions[:, :, None] != regions[:, None, :]
    np.testing.assert_array_equal(apart, monai_mask(size, (4, 3, 4), shifted=True).numpy() != 0)


def test_rematerialised_blocks_keep_less_and_give_the_same() -> None:
    block, _ = same_blocks((3, 3, 3), 2, shifted=True)
    x = jax.random.normal(jax.random.key(0), (1, 6, 6, 6, 12))

    def run(x: jax.Array, extra: jax.Array, *, rematerialise: bool) -> Any:
        tap = Tap({"stage.block.perceptron": extra}).under("stage")
        y = run_block(block, x, tap.under("block"), rematerialise=rematerialise)
        return y, tap.activations

    @partial(jax.jit, static_argnums=2)
    def evaluate(x: jax.Array, extra: jax.Array, rematerialise: bool) -> Any:
        forward = partial(run, rematerialise=rematerialise)
        y, pull, activations = jax.vjp(forward, x, extra, has_aux=True)
        return y, pull(x), activations, pull

    extra = jax.random.normal(jax.random.key(1), x.shape)
    *plain, pull = evaluate(x, extra, False)
    *again, pull_again = evaluate(x, extra, True)
    for ours, theirs in zip(jax.tree.leaves(again), jax.tree.leaves(plain), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5 * np.abs(theirs).max())
    assert again[2].keys() == plain[2].keys()
    assert kept_bytes(pull_again) < 0.5 * kept_bytes(pull)


def kept_bytes(pull_back: Any) -> int:
    return sum(leaf.nbytes for leaf in jax.tree.leaves(pull_back))


@pytest.mark.thorough
def test_rematerialisation_reaches_every_block_of_the_network() -> None:
    config = configured(depths=[2, 1, 1, 1])
    shapes = parameter_shapes(config)
    parameters = {k: jax.ShapeDtypeStruct(s, jnp.float32) for k, s in shapes.items()}
    batch = jax.ShapeDtypeStruct((1, 32, 32, 32, 1), jnp.float32)
    function = NetworkFunction(config, rematerialise=True)
    jaxpr = jax.make_jaxpr(function)(parameters, batch)
    found = sum("remat" in str(equation.primitive) for equation in jaxpr.eqns)
    assert found == sum(config.depths)


def test_models_of_other_networks_refuse_rematerialisation() -> None:
    arguments = {"in_channels": 1, "out_channels": 2, "channels": [2, 3], "strides": [2]}
    config = UNetConfig.from_arguments(arguments)
    zeros = {name: np.zeros(shape, "f4") for name, shape in parameter_shapes(config).items()}
    model = Model(config, zeros, ("flair",))
    with pytest.raises(InputError, match=r"swin-unetr.*unet"):
        model.with_rematerialisation()


def test_models_pass_rematerialisation_on() -> None:
    config = configured()
    zeros = {name: np.zeros(shape, "f4") for name, shape in parameter_shapes(config).items()}
    model = Model(config, zeros, ("flair",))
    assert not model.function.rematerialise
    assert model.with_rematerialisation().function.rematerialise


def test_shortcuts_and_stems_are_there_where_they_are_needed() -> None:
    config = configured(use_v2=True, patch_norm=True, in_channels=12)
    network = nnx.eval_shape(lambda: SwinUNETR(config, nnx.Rngs(0)))
    assert network.skips[0].shortcut is None  # as many inputs as outputs
    assert network.stages[3].stem is not None


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"use_v2": True, "downsample": "mergingv2", "normalize": False, "qkv_bias": False},
        {"img_size": [96, 96, 96], "drop_rate": 0.2, "use_checkpoint": True},
        {"window_size": [7, 7, 5], "mlp_ratio": 2, "norm_name": ["group", {"num_groups": 4}]},
        {"patch_norm": True, "norm_name": "", "patch_size": [2, 2, 2], "depths": [2, 4, 6, 2]},
        {"use_hyena": False, "hyena_stages": None, "use_flash_attention": True},
    ],
    ids=str,
)
def test_arguments_survive_the_way_to_json_and_back(changes: dict[str, Any]) -> None:
    config = configured(**changes)
    arguments = json.loads(json.dumps(config.to_arguments()))
    assert config_from_arguments("swin-unetr", arguments) == config
    hash(config)


def test_arguments_with_an_image_size_are_those_of_an_older_merging() -> None:
    assert configured(img_size=96).downsample == "merging-1.4"
    assert configured(img_size=96, downsample="mergingv2").downsample == "mergingv2"
    assert configured().downsample == "merging"


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"feature_size": 20}, "feature_size"),
        ({"feature_size": 0}, "feature_size"),
        ({"depths": [2, 2, 2]}, "depths"),
        ({"depths": 2}, "depths"),
        ({"depths": [2, 2, 2, 0]}, "depths"),
        ({"num_heads": [3, 6, 12, 24, 48]}, "num_heads"),
        ({"num_heads": [5, 6, 12, 24]}, "num_heads.*stage 0"),
        ({"window_size": [7, 7]}, "window_size"),
        ({"window_size": 0}, "window_size"),
        ({"patch_size": 4}, "patch_size"),
        ({"mlp_ratio": -1}, "mlp_ratio"),
        ({"mlp_ratio": "4"}, "mlp_ratio"),
        ({"norm_name": "layer"}, "norm_name"),
        ({"norm_name": ["layer", {"normalized_shape": 12}]}, "norm_name"),
        ({"norm_name": ["group", {"num_groups": 5}]}, "num_groups"),
        ({"downsample": "pooling"}, "downsample"),
        ({"downsample": ["merging"]}, "downsample"),
        ({"use_hyena": True}, "use_hyena"),
        ({"hyena_stages": [True, False, False, False]}, "use_hyena"),
        ({"drop_rate": 2}, "drop_rate"),
        ({"qkv_bias": 1}, "qkv_bias"),
        ({"spatial_dims": 2}, "spatial_dims"),
        ({"embed_dim": 24}, "embed_dim"),
    ],
    ids=str,
)
def test_unsupported_arguments_are_named(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError, match=named):
        configured(**changes)
