"""Shapes and dtypes of arrays, for planning and tracing before there are any."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp


@dataclass(frozen=True)
class Shapes:
    """What is known of a pytree of arrays before they are; hashable."""

    tree: Any
    leaves: tuple[tuple[tuple[int, ...], Any], ...]

    @classmethod
    def of(cls, arrays: Any) -> Shapes:
        leaves, tree = jax.tree.flatten(arrays)
        return cls(tree, tuple((tuple(x.shape), jnp.dtype(x.dtype)) for x in leaves))

    def structs(self) -> Any:
        """The pytree with `jax.ShapeDtypeStruct` for arrays."""
        return jax.tree.unflatten(self.tree, [jax.ShapeDtypeStruct(*x) for x in self.leaves])
