"""The U-Net family equals MONAI's: logits, gradients and the output of every module."""

from __future__ import annotations

import json
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from monai.networks.nets import UNet as MonaiUNet

from jaxsal.errors import InputError
from jaxsal.nets.registry import NetworkFunction, config_from_arguments, layer_names
from jaxsal.nets.unet_config import UNetConfig
from jaxsal_converters.unet import convert
from jaxsal_converters.unet_keys import aliases

LOGITS = 1e-4  # float32 rounding, as a fraction of the largest magnitude
GRADIENTS = 1e-3

FAST_COMPILATION = {"xla_backend_optimization_level": 0}  # compiling is most of a test's time

PLAIN = {"in_channels": 2, "out_channels": 2, "channels": (4, 6), "strides": (2,)}
DEEP = {"channels": (4, 6, 8), "strides": (2, 2)}
# every option in at least two of its values; sizes leave instance norm something to normalise
CASES: dict[str, tuple[dict[str, Any], tuple[int, int, int]]] = {
    "paper's": ({**DEEP, "norm": "batch"}, (8, 8, 12)),
    "strides per axis, instance": ({**DEEP, "strides": ((1, 2, 2), 1)}, (4, 6, 8)),
    "kernels per axis, affine instance": (
        {
            "kernel_size": (1, 3, 5),
            "up_kernel_size": (3, 5, 1),
            "norm": ("instance", {"affine": True}),
            "strides": ((3, 2, 1),),
        },
        (6, 8, 6),
    ),
    "1 residual unit, group": (
        {**DEEP, "num_res_units": 1, "norm": ("group", {"num_groups": 2, "eps": 1e-3})},
        (8, 8, 8),
    ),
    "2 residual units, batch, relu, no bias": (
        {"num_res_units": 2, "norm": "batch", "act": "relu", "bias": False, "kernel_size": 1},
        (4, 8, 8),
    ),
    "3 residual units, same width, leaky relu, dropout": (
        {
            "num_res_units": 3,
            "in_channels": 4,
            "channels": (4, 4, 5),
            "strides": (1, (2, 1, 2)),
            "act": ("leakyrelu", {"negative_slope": 0.2}),
            "norm": ("batch", {"affine": False, "eps": 1e-2}),
            "dropout": 0.2,
            "adn_ordering": "ADN",
        },
        (4, 5, 6),
    ),
    "layer norm, elu": (
        {"strides": (1,), "norm": ("layer", {"normalized_shape": (4, 5, 6)}), "act": "elu"},
        (4, 5, 6),
    ),
    "layer norm of two axes, celu": (
        {"strides": (1,), "norm": ("layer", {"normalized_shape": (5, 6)}), "act": "celu"},
        (4, 5, 6),
    ),
    "a slope per channel, tracked instance": (
        {
            "channels": (3, 3),
            "strides": (2,),
            "act": ("prelu", {"num_parameters": 3}),
            "norm": ("instance", {"affine": True, "track_running_stats": True}),
        },
        (4, 6, 4),
    ),
    "gelu, one output, no dropout letter": (
        {"act": "gelu", "out_channels": 1, "adn_ordering": "NA", "norm": "batch"},
        (4, 8, 4),
    ),
    "swish before norm, one input": (
        {"act": ("swish", {"alpha": 1.5}), "adn_ordering": "AN", "in_channels": 1},
        (8, 8, 8),
    ),
    "mish without norm": ({"act": "mish", "norm": None, "dropout": 0.2}, (4, 4, 8)),
    "tanh, four levels": (
        {"act": "tanh", "channels": (2, 3, 4, 5), "strides": (2, 1, 2), "norm": "batch"},
        (4, 8, 4),
    ),
}


def random_monai(arguments: dict[str, Any], seed: int = 0) -> MonaiUNet:
    """MONAI's network at inference, no parameter or statistic at the value it starts from."""
    torch.manual_seed(seed)
    network = MonaiUNet(spatial_dims=3, **arguments).eval()
    for name, tensor in network.state_dict().items():
        if name.endswith(("running_var", "N.weight", "A.weight")):
            tensor.uniform_(0.3, 1.5)
        elif name.endswith(("running_mean", "bias")):
            tensor.normal_(0, 0.3)
    return network


def arrays_of(network: MonaiUNet) -> dict[str, np.ndarray]:
    return {
        k: v.numpy()
        for k, v in network.state_dict().items()
        if not k.endswith("num_batches_tracked")
    }


@cache
def both(case: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Logits, activations (by MONAI's path) and their pull-backs, from MONAI and from us."""
    changes, size = CASES[case]
    arguments = {**PLAIN, **changes}
    network = random_monai(arguments)
    generator = np.random.default_rng(1)
    batch = generator.standard_normal((2, *size, arguments["in_channels"]), "f4")
    cotangent = generator.standard_normal((2, *size, arguments["out_channels"]), "f4")
    return monai_results(network, batch, cotangent), our_results(
        arrays_of(network), arguments, batch, cotangent
    )


def monai_results(network: MonaiUNet, batch: np.ndarray, cotangent: np.ndarray) -> dict[str, Any]:
    outputs: dict[str, torch.Tensor] = {}
    for path, module in network.named_modules():
        if path and not isinstance(module, torch.nn.Identity):
            module.register_forward_hook(
                lambda _, __, output, path=path: outputs.setdefault(path, output)
            )
    x = torch.from_numpy(np.moveaxis(batch, -1, 1).copy()).requires_grad_()
    logits = network(x)
    (logits * torch.from_numpy(np.moveaxis(cotangent, -1, 1).copy())).sum().backward(
        inputs=[x, *{id(o): o for o in outputs.values()}.values()]
    )
    return {
        "logits": channels_last(logits),
        "gradient": channels_last(x.grad),
        "activations": {path: channels_last(o) for path, o in outputs.items()},
        "pull_backs": {path: channels_last(o.grad) for path, o in outputs.items()},
    }


def channels_last(tensor: torch.Tensor) -> np.ndarray:
    return np.moveaxis(tensor.detach().numpy(), 1, -1).copy()


def our_results(
    state: dict[str, np.ndarray],
    arguments: dict[str, Any],
    batch: np.ndarray,
    cotangent: np.ndarray,
) -> dict[str, Any]:
    config, parameters, _ = convert(state, arguments)
    function = NetworkFunction(config)
    layers = layer_names(config)

    @partial(jax.jit, compiler_options=FAST_COMPILATION)
    def evaluate(parameters, batch, cotangent):
        shapes = jax.eval_shape(function.with_activations, parameters, batch)[1]
        zeros = {name: jnp.zeros(shapes[name].shape) for name in layers}

        def forward(batch, perturbations):
            return function.with_activations(parameters, batch, perturbations)

        logits, pull, activations = jax.vjp(forward, batch, zeros, has_aux=True)
        return logits, activations, *pull(cotangent)

    logits, activations, gradient, pull_backs = evaluate(parameters, batch, cotangent)
    return {
        "logits": logits,
        "gradient": gradient,
        "activations": activations,
        "pull_backs": pull_backs,
        "aliases": aliases(config),
        "layers": layers,
    }


def assert_close(ours: Any, theirs: np.ndarray, tolerance: float) -> None:
    assert ours.shape == theirs.shape
    assert np.abs(theirs).max() > 0
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * np.abs(theirs).max())


@pytest.mark.parametrize("case", CASES)
def test_logits_equal_monai(case: str) -> None:
    theirs, ours = both(case)
    assert_close(ours["logits"], theirs["logits"], LOGITS)


@pytest.mark.parametrize("case", CASES)
def test_input_gradients_equal_monai(case: str) -> None:
    theirs, ours = both(case)
    assert_close(ours["gradient"], theirs["gradient"], GRADIENTS)


@pytest.mark.parametrize("case", CASES)
def test_every_module_of_monai_has_its_layer_with_the_same_output(case: str) -> None:
    theirs, ours = both(case)
    for path, activation in theirs["activations"].items():
        assert_close(ours["activations"][ours["aliases"][path]], activation, LOGITS)


@pytest.mark.parametrize("case", CASES)
def test_every_layer_has_an_alias_and_every_alias_a_layer(case: str) -> None:
    _, ours = both(case)
    assert set(ours["aliases"].values()) == set(ours["layers"])


@pytest.mark.parametrize("case", CASES)
def test_perturbing_a_layer_has_the_gradient_of_that_layer(case: str) -> None:
    theirs, ours = both(case)
    for path, pull_back in theirs["pull_backs"].items():
        assert_close(ours["pull_backs"][ours["aliases"][path]], pull_back, GRADIENTS)


@pytest.mark.parametrize("case", CASES)
def test_arguments_survive_the_way_to_json_and_back(case: str) -> None:
    config = UNetConfig.from_arguments({**PLAIN, **CASES[case][0]})
    arguments = json.loads(json.dumps(config.to_arguments()))
    assert config_from_arguments("unet", arguments) == config
    hash(config)


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
