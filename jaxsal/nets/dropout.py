"""A network whose dropout stays active at inference (Gal and Ghahramani 2016)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxsal.nets.registry import MATMUL_PRECISION, NetworkConfig, Parameters, Sized, build, merge


@dataclass(frozen=True)
class DropoutFunction(Sized):
    """A network with its dropout as a pure function; hashable.

    All else is as at inference. Examples of a batch have dropout of their own.

    Attributes:
        config: the architecture.
        precision: arithmetic, one of `jaxsal.settings.PRECISIONS`; logits are float32.
    """

    config: NetworkConfig
    precision: str = "float32"

    def __call__(self, parameters: tuple[Parameters, jax.Array], batch: jax.Array) -> jax.Array:
        """Logits (B, X, Y, Z, K) of images (B, X, Y, Z, C), by parameters and a random key."""
        own, key = parameters
        dtype = jnp.bfloat16 if self.precision == "bfloat16" else jnp.float32
        network = merge(self.config, {name: value.astype(dtype) for name, value in own.items()})
        activate_dropout(network, key)
        with jax.default_matmul_precision(MATMUL_PRECISION[self.precision]):
            logits, _ = network(batch.astype(dtype))
        found: jax.Array = logits.astype(jnp.float32)
        return found


def activate_dropout(network: Any, key: jax.Array) -> None:
    """Sets every dropout of a network, which are built for inference; each draws on its own."""
    for number, module in enumerate(_dropouts(network)):
        module.deterministic = False
        module.rngs = nnx.Rngs(dropout=jax.random.fold_in(key, number))


def has_dropout(config: NetworkConfig) -> bool:
    """Whether a network of this architecture has dropout, at a rate above 0."""
    network = nnx.eval_shape(lambda: build(config, nnx.Rngs(0)))
    return any(module.rate > 0 for module in _dropouts(network))


def _dropouts(network: Any) -> list[nnx.Dropout]:
    return [each for _, each in nnx.iter_modules(network) if isinstance(each, nnx.Dropout)]
