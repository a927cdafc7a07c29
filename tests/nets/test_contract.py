"""Every network equals its PyTorch source: logits, derivatives, the output of every module.

Logits are compared in float32, as the networks are used. Derivatives have jumps where the input of
a leaky ReLU is zero: in float32 some of a large network's millions of inputs are zero within
rounding, two implementations then take different slopes, and the difference, of no meaning, hides
any other. So networks with many of them are compared in float64, where none is that close.
"""

from __future__ import annotations

import json
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from helpers.network_cases import CASES
from helpers.network_cases.case import Case, arrays_of, randomised
from helpers.thorough import thorough_except

from jaxsal.checkpoints import load_model, save_model
from jaxsal.model import Model
from jaxsal.nets.registry import NetworkFunction, config_from_arguments, layer_names

# Rounding, as a fraction of the largest magnitude.
LOGITS = 3e-5  # float32
ACTIVATIONS = {"float32": LOGITS, "float64": 1e-10}
GRADIENTS = {"float32": 1e-4, "float64": 1e-9}


pytestmark = pytest.mark.usefixtures("xla_convolutions")
DOUBLE = [name for name, case in CASES.items() if case.dtype == "float64"]
SINGLE = [name for name in CASES if name not in DOUBLE]
# One case after the other: the activations of all of them would not fit into memory.
# A Swin UNETR in float64 takes as long as all others: quick are its logits in float32, below, and
# the derivatives of its blocks (test_swin_unetr.py). Of the deepest networks, other cases have each
# option in fewer levels; of MedNeXt, test_mednext.py has them.
LEFT_OUT = (
    "dynunet, model zoo's",
    "segresnet-ds, Auto3DSeg's",
    "mednext, residual, response norm, ratios per level",
    "mednext, without residual connections",
    "mednext, kernel as by default, deep supervision, one level",
)
QUICK = [name for name in SINGLE if name not in LEFT_OUT]
every_case = pytest.mark.parametrize("name", thorough_except(CASES, *QUICK), scope="module")


@lru_cache(maxsize=1)
def both(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Logits, activations (by the source's path) and their pull-backs, from the source and us."""
    case = CASES[name]
    network = source_of(case)
    generator = np.random.default_rng(1)

    def normal(channels: int) -> np.ndarray:
        values = generator.standard_normal((2, *case.size, channels), "f4")
        return values.astype(case.dtype)

    batch, tangent = normal(case.in_channels), normal(case.in_channels)
    cotangent = normal(case.out_channels)
    with jax.enable_x64(case.dtype == "float64"):
        ours = our_results(case, arrays_of(network), batch, tangent, cotangent)
    theirs = their_results(case, network.to(getattr(torch, case.dtype)), batch, cotangent)
    return {**theirs, "tangent": tangent, "cotangent": cotangent}, ours


def source_of(case: Case) -> torch.nn.Module:
    """The source's network, the same at every call."""
    torch.manual_seed(0)
    return randomised(case.source())


def their_results(
    case: Case, network: torch.nn.Module, batch: np.ndarray, cotangent: np.ndarray
) -> dict[str, Any]:
    outputs: dict[str, torch.Tensor] = {}

    def hook(path: str, _: Any, __: Any, output: Any) -> Any:
        if not isinstance(output, torch.Tensor):
            return None
        outputs[path] = output
        return output.clone()  # what follows may work in place

    for path, module in network.named_modules(remove_duplicate=False):
        if path and case.is_compared(path) and not isinstance(module, torch.nn.Identity):
            module.register_forward_hook(partial(hook, path))
    x = case.to_torch(batch).requires_grad_()
    logits = network(x)
    distinct = {id(output): output for output in outputs.values()}.values()
    (logits * case.to_torch(cotangent)).sum().backward(inputs=[x, *distinct])
    return {
        "logits": case.from_torch(logits),
        "gradient": case.from_torch(x.grad),
        "activations": {path: case.from_torch(o) for path, o in outputs.items()},
        "pull_backs": {path: case.from_torch(o.grad) for path, o in outputs.items()},
    }


def our_results(
    case: Case,
    state: dict[str, np.ndarray],
    batch: np.ndarray,
    tangent: np.ndarray,
    cotangent: np.ndarray,
) -> dict[str, Any]:
    config, converted = case.convert(state)
    parameters = {key: jnp.asarray(value, batch.dtype) for key, value in converted.items()}
    function = NetworkFunction(config)
    layers = layer_names(config)

    @jax.jit
    def evaluate(parameters, batch, tangent, cotangent):
        shapes = jax.eval_shape(function.with_activations, parameters, batch)[1]
        zeros = {name: jnp.zeros(shapes[name].shape, batch.dtype) for name in layers}

        def forward(batch, perturbations):
            return function.with_activations(parameters, batch, perturbations)

        logits, pull, activations = jax.vjp(forward, batch, zeros, has_aux=True)
        gradient, pull_backs = pull(cotangent)
        _, pushed = jax.jvp(partial(function, parameters), (batch,), (tangent,))
        alone = jax.vmap(lambda image: function(parameters, image[None])[0])(batch)
        return {
            "logits": logits,
            "activations": activations,
            "gradient": gradient,
            "pull_backs": pull_backs,
            "pushed": pushed,
            "alone": alone,
        }

    # logits and what is pushed forward to them are rounded to float32 in any case
    results = evaluate(parameters, batch, tangent, cotangent.astype("f4"))
    fixed = {"config": config, "parameters": converted, "layers": layers}
    return {**jax.device_get(results), **fixed, "aliases": case.aliases(config)}


def assert_close(ours: Any, theirs: np.ndarray, tolerance: float) -> None:
    assert ours.shape == theirs.shape
    scale = np.abs(theirs).max()
    assert scale > 0
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * scale)


@every_case
def test_logits_equal_the_source(name: str) -> None:
    theirs, ours = both(name)
    assert_close(ours["logits"], theirs["logits"], LOGITS)


@pytest.mark.parametrize("name", thorough_except(DOUBLE, DOUBLE[0]))
def test_logits_equal_the_source_in_float32(name: str) -> None:
    case = CASES[name]
    network = source_of(case)
    batch = np.random.default_rng(1).standard_normal((1, *case.size, case.in_channels), "f4")
    config, parameters = case.convert(arrays_of(network))
    function = jax.jit(NetworkFunction(config))
    with torch.no_grad():
        expected = case.from_torch(network(case.to_torch(batch)))
    assert_close(function(parameters, batch), expected, LOGITS)


@every_case
def test_input_gradients_equal_the_source(name: str) -> None:
    theirs, ours = both(name)
    assert_close(ours["gradient"], theirs["gradient"], GRADIENTS[CASES[name].dtype])


@every_case
def test_forward_derivatives_are_those_of_the_source(name: str) -> None:
    theirs, ours = both(name)
    found = np.vdot(np.asarray(ours["pushed"], "f8"), theirs["cotangent"])
    expected = np.vdot(np.asarray(theirs["gradient"], "f8"), theirs["tangent"])
    scale = np.linalg.norm(theirs["gradient"]) * np.linalg.norm(theirs["tangent"])
    assert abs(found - expected) < GRADIENTS["float32"] * scale


@every_case
def test_examples_of_a_batch_do_not_affect_each_other(name: str) -> None:
    _, ours = both(name)
    assert_close(ours["alone"], np.asarray(ours["logits"]), LOGITS)


@every_case
def test_every_module_of_the_source_has_its_layer_with_the_same_output(name: str) -> None:
    theirs, ours = both(name)
    for path, activation in theirs["activations"].items():
        layer = ours["aliases"][path]
        assert_close(ours["activations"][layer], activation, ACTIVATIONS[CASES[name].dtype])


@every_case
def test_perturbing_a_layer_has_the_gradient_of_that_layer(name: str) -> None:
    theirs, ours = both(name)
    for path, pull_back in theirs["pull_backs"].items():
        layer = ours["aliases"][path]
        assert_close(ours["pull_backs"][layer], pull_back, GRADIENTS[CASES[name].dtype])


@every_case
def test_aliases_and_layers_correspond(name: str) -> None:
    theirs, ours = both(name)
    assert set(ours["aliases"]) >= set(theirs["activations"])
    aliased = set(ours["aliases"].values())
    assert aliased <= set(ours["layers"])
    assert {layer for layer in ours["layers"] if CASES[name].is_named(layer)} <= aliased


@every_case
def test_arguments_survive_the_way_to_json_and_back(name: str) -> None:
    _, ours = both(name)
    config = ours["config"]
    arguments = json.loads(json.dumps(config.to_arguments()))
    assert config_from_arguments(config.kind, arguments) == config
    hash(config)


@every_case
def test_models_survive_saving_and_loading(name: str, tmp_path: Path) -> None:
    _, ours = both(name)
    channels = tuple(f"channel{c}" for c in range(CASES[name].in_channels))
    model = Model(ours["config"], ours["parameters"], channels, aliases=ours["aliases"])
    save_model(model, tmp_path / "model")
    loaded = load_model(tmp_path / "model")
    assert (loaded.config, loaded.aliases) == (model.config, model.aliases)
    assert loaded.parameters.keys() == model.parameters.keys()
    for key, value in model.parameters.items():
        np.testing.assert_array_equal(loaded.parameters[key], value)
