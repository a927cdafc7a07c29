"""A network as it is run in training: batch norm by the batch's own statistics, with dropout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxsal.nets.dropout import activate_dropout
from jaxsal.nets.registry import (
    MATMUL_PRECISION,
    NetworkConfig,
    Parameters,
    merge,
    split,
    statistics_names,
)


@dataclass(frozen=True)
class TrainingFunction:
    """A network in training as a pure function; hashable.

    Attributes:
        config: the architecture.
        precision: arithmetic, one of `jaxsal.settings.PRECISIONS`. With "bfloat16" weights and
            activations are rounded to it within the network; gradients, batch norm's statistics
            and logits are float32.
        momentum: what is kept of batch norm's running statistics at each pass, the rest being of
            the batch (PyTorch's momentum is one minus this). The variance is the biased one, as it
            is in normalising; PyTorch keeps the unbiased one.
        rematerialise: as of `jaxsal.nets.registry.NetworkFunction`.
    """

    config: NetworkConfig
    precision: str = "float32"
    momentum: float = 0.9
    rematerialise: bool = False

    def __call__(
        self, weights: Parameters, statistics: Parameters, batch: jax.Array, key: jax.Array
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Logits (B, X, Y, Z, K), float32, of images (B, X, Y, Z, C), and the new statistics.

        Args:
            weights: what is learnt, float32 by name.
            statistics: what is measured, as `jaxsal.nets.registry.statistics_names` lists it.
            batch: images.
            key: random, of the dropout.
        """
        dtype = jnp.bfloat16 if self.precision == "bfloat16" else jnp.float32
        weights = {name: value.astype(dtype) for name, value in weights.items()}
        network = merge(self.config, {**weights, **statistics})
        _set_to_training(network, key, self.momentum, dtype)
        options = {"rematerialise": True} if self.rematerialise else {}
        with jax.default_matmul_precision(MATMUL_PRECISION[self.precision]):
            logits, _ = network(batch.astype(dtype), **options)
        new, measured = split(network), statistics_names(self.config)
        return logits.astype(jnp.float32), {name: new[name] for name in measured}


def _set_to_training(network: Any, key: jax.Array, momentum: float, dtype: Any) -> None:
    """Sets every batch norm and dropout, which are built for inference."""
    activate_dropout(network, key)
    for _, module in nnx.iter_modules(network):
        if isinstance(module, nnx.BatchNorm):
            module.use_running_average = False
            module.momentum = momentum
            module.dtype = dtype  # of what it returns; it measures in float32
