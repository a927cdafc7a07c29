"""Rules that lead from the entries of a PyTorch state dict to our parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxsal.errors import InputError
from jaxsal.model import describe_mismatch
from jaxsal_converters.state_dict import State

# the last part of our parameter names -> PyTorch's
LEAVES = {
    "kernel": "weight",
    "scale": "weight",
    "slope": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
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
