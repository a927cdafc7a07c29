"""Activation functions by the names that MONAI gives them."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp


def _leaky_relu(x: jax.Array, negative_slope: float = 0.01) -> jax.Array:
    return jnp.where(x > 0, x, negative_slope * x)  # PyTorch's choice of derivative at zero


def _gelu(x: jax.Array, approximate: str = "none") -> jax.Array:
    return jax.nn.gelu(x, approximate=approximate == "tanh")


def _swish(x: jax.Array, alpha: float = 1.0) -> jax.Array:
    return x * jax.nn.sigmoid(alpha * x)


# name -> function of x and PyTorch's keyword arguments
ACTIVATIONS: dict[str, Callable[..., jax.Array]] = {
    "celu": jax.nn.celu,
    "elu": jax.nn.elu,
    "gelu": _gelu,
    "leakyrelu": _leaky_relu,
    "memswish": jax.nn.swish,
    "mish": jax.nn.mish,
    "relu": jax.nn.relu,
    "relu6": jax.nn.relu6,
    "selu": jax.nn.selu,
    "sigmoid": jax.nn.sigmoid,
    "swish": _swish,
    "tanh": jnp.tanh,
}
