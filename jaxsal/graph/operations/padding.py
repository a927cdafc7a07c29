"""Padding: with a number, mirrored, with the edge, or with what lies at the other end."""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
from jax import lax

from jaxsal.graph.operations.table import operation
from jaxsal.graph.values import Value

_MODES = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}


@operation("constant_pad_nd")
def pad_constant(self: Value, pad: Sequence[int], value: float = 0) -> Value:
    """With a number; less than none crops."""
    edges = [(*pair, 0) for pair in _edges(self, pad)]
    number = jnp.asarray(value, self.dtype)
    return self.like(lax.pad(jnp.asarray(self.array), number, edges))


@operation("pad")
def pad(
    self: Value, pad: Sequence[int], mode: str = "constant", value: float | None = None
) -> Value:
    """In one of PyTorch's modes."""
    if mode == "constant":
        return pad_constant(self, pad, value or 0)
    return _padded(self, pad, _MODES[mode])


@operation("reflection_pad1d", "reflection_pad2d", "reflection_pad3d")
def pad_reflecting(self: Value, padding: Sequence[int]) -> Value:
    """Mirrored at the edge, which is not repeated."""
    return _padded(self, padding, "reflect")


@operation("replication_pad1d", "replication_pad2d", "replication_pad3d")
def pad_replicating(self: Value, padding: Sequence[int]) -> Value:
    """With the edge."""
    return _padded(self, padding, "edge")


@operation("_pad_circular")
def pad_circular(self: Value, pad: Sequence[int]) -> Value:
    """With what lies at the other end."""
    return _padded(self, pad, "wrap")


def _padded(value: Value, padding: Sequence[int], mode: str) -> Value:
    return value.like(jnp.pad(jnp.asarray(value.array), _edges(value, padding), mode=mode))


def _edges(value: Value, padding: Sequence[int]) -> list[tuple[int, int]]:
    """Per axis as held; PyTorch begins with the last axis."""
    pairs = list(zip(padding[::2], padding[1::2], strict=True))[::-1]
    logical = [(0, 0)] * (value.rank - len(pairs)) + pairs
    return [logical[axis] for axis in value.axes]
