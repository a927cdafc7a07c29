"""Rules that lead from the entries of a PyTorch state dict to our parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxsal.errors import InputError
from jaxsal.model import describe_mismatch
from jaxsal.nets.registry import NetworkConfig, layer_names, parameter_shapes
from jaxsal_converters.state_dict import State

# the last part of our parameter names -> PyTorch's
LEAVES = {
    "kernel": "weight",
    "scale": "weight",
    "slope": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
    "position_bias": "relative_position_bias_table",
    "response_scale": "global_resp_gamma",
    "response_bias": "global_resp_beta",
}


class Rule(NamedTuple):
    """Where a parameter is found in a state dict.

    Attributes:
        key: its name there.
        shape: its shape there.
        axes: the order in which our array takes its axes.
    """

    key: str
    shape: tuple[int, ...]
    axes: tuple[int, ...]

    def apply(self, array: np.ndarray) -> np.ndarray:
        """Our form of the array found under `key`."""
        full = array.reshape((1,) * (len(self.axes) - array.ndim) + array.shape)
        return np.ascontiguousarray(full.transpose(self.axes))


def plain_rule(key: str, shape: tuple[int, ...]) -> Rule:
    """The rule for a convolution's kernel, or for values per channel.

    Args:
        key: in the state dict.
        shape: of our parameter; a kernel's is (x, y, z, C, K).
    """
    if len(shape) == 5:  # (K, C, x, y, z), transposed (C_in, C_out, x, y, z): reversed alike
        return Rule(key, (*shape[:2:-1], *shape[:3]), (2, 3, 4, 1, 0))
    return Rule(key, shape, (0,))


def rules_of(
    config: NetworkConfig,
    paths: Iterable[tuple[str, str]],
    rule: Callable[[str, tuple[int, ...]], Rule] = plain_rule,
) -> dict[str, Rule]:
    """The rule for every parameter of an architecture, by our name.

    Args:
        config: the architecture.
        paths: (our module, the source's path of it), of several paths the one of the module that
            holds the parameters first.
        rule: from a key in the state dict and the shape of our parameter.
    """
    owners: dict[str, str] = {}
    for ours, theirs in paths:
        owners.setdefault(ours, theirs)
    rules = {}
    for name, shape in parameter_shapes(config).items():
        module, _, leaf = name.rpartition(".")
        rules[name] = rule(f"{owners[module]}.{LEAVES[leaf]}", shape)
    return rules


def aliases_of(config: NetworkConfig, paths: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The source's path of every module whose output is a layer of ours -> our layer name.

    Args:
        config: the architecture.
        paths: (our module, the source's path of it).
    """
    layers = set(layer_names(config))
    return {theirs: ours for ours, theirs in paths if ours in layers}


def apply_rules(rules: Mapping[str, Rule], state: State) -> dict[str, jax.Array]:
    """Our parameters by name.

    Args:
        rules: by our names.
        state: all entries of the network.

    Raises:
        InputError: entries are missing, extra or misshapen.
    """
    expected = dict(sorted((rule.key, rule.shape) for rule in rules.values()))
    mismatch = describe_mismatch(expected, {key: value.shape for key, value in state.items()})
    if mismatch:
        raise InputError(f"its entries are not those of the network: {mismatch}")
    return {name: jnp.asarray(rule.apply(state[rule.key])) for name, rule in rules.items()}
