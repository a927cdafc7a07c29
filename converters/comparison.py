"""Logits of the source's network beside those of its conversion, on random input."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxsal.errors import InputError
from jaxsal.model import Model

_LEAST_SIZE = 16  # voxels per axis of the input


def library(module: str, requirement: str) -> Any:
    """A module that nothing but comparing needs.

    Args:
        module: its name.
        requirement: the package that it is of, as pip takes it.

    Raises:
        InputError: it is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return import_module(module)
    except ImportError as error:
        package = requirement.partition("==")[0]
        absent = [] if find_spec("torch") else ["torch"]
        raise InputError(
            f"--verify compares with {package}, which is not installed: pip install "
            f"{' '.join([*absent, requirement])} (PyTorch's CPU build suffices, as its "
            "installation page shows), or leave --verify out"
        ) from error


def random_batch(model: Model, seed: int = 0) -> np.ndarray:
    """Standard normal numbers (1, X, Y, Z, C) of a small size that the network takes."""
    size = [
        fixed or divisor * max(2, -(-_LEAST_SIZE // divisor))
        for fixed, divisor in zip(model.config.fixed_size, model.divisor, strict=True)
    ]
    return np.random.default_rng(seed).standard_normal((1, *size, len(model.channels)), "f4")


def relative_difference(
    model: Callable[[Any], Any], batch: np.ndarray, expected: np.ndarray
) -> float:
    """The largest difference of a model's logits to the expected ones, relative to their peak.

    Args:
        model: the conversion, or what makes other numbers of its logits.
        batch: (B, X, Y, Z, C) that it is run on.
        expected: (B, X, Y, Z, K), the source's logits of it.

    Raises:
        InputError: the source's logits are zero everywhere, or not finite.
    """
    peak = np.abs(expected).max()
    if not np.isfinite(peak):
        raise InputError(
            "the source's network has logits that are not finite on random input: its weights are "
            "damaged, or its training diverged"
        )
    if peak == 0:
        raise InputError(
            "the source's network has logits of 0 everywhere on random input, so that there is "
            "nothing to compare, and nothing to explain: its weights were not trained, or not "
            "loaded"
        )
    return float(np.abs(np.asarray(model(jnp.asarray(batch))) - expected).max() / peak)
