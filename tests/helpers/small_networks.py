"""Small networks for derivatives of any order: in JAX, and the same in PyTorch at float64.

Norms are written out for PyTorch: the third derivatives of its own, fused ones are wrong (version
2.13: of layer and instance norm they differ from finite differences by half and more).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from helpers.gradcam_peer import module_path
from helpers.peers import converted, monai_network

SIZE = (6, 4, 4)
CHANNELS = 3


@dataclass(frozen=True)
class AttentionFunction:
    """A linear layer named "tokens", attention of all positions, layer norm, GELU, logits."""

    divisor = (1, 1, 1)
    channels = 2
    smallest_size = SIZE

    def __call__(self, parameters: Any, batch: jax.Array) -> jax.Array:
        return self.with_activations(parameters, batch)[0]

    def with_activations(
        self,
        parameters: Any,
        batch: jax.Array,
        perturbations: Mapping[str, jax.Array] | None = None,
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        given = perturbations or {}
        tokens = jnp.tanh(batch @ parameters["embed"])
        tokens = tokens + given.get("tokens", 0)
        flat = tokens.reshape(batch.shape[0], -1, CHANNELS)
        q, k, v = (flat @ parameters[name] for name in ("query", "key", "value"))
        mixed = jax.nn.softmax(q @ k.swapaxes(1, 2), axis=-1) @ v + flat
        centred = mixed - mixed.mean(-1, keepdims=True)
        normed = centred / jnp.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
        logits = jax.nn.gelu(normed, approximate=False) @ parameters["logits"]
        return logits.reshape(*batch.shape[:-1], 2), {"tokens": tokens, "flat": flat}


def attention_parameters() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(5)
    shapes = {"embed": (2, CHANNELS), "logits": (CHANNELS, 2)}
    shapes |= dict.fromkeys(("query", "key", "value"), (CHANNELS, CHANNELS))
    return {name: rng.normal(size=s).astype(np.float32) for name, s in shapes.items()}


def standardised(x: torch.Tensor, over: tuple[int, ...], epsilon: float) -> torch.Tensor:
    centred = x - x.mean(over, keepdim=True)
    return centred / torch.sqrt((centred**2).mean(over, keepdim=True) + epsilon)


class WrittenOutInstanceNorm(torch.nn.Module):
    """What an ``InstanceNorm3d`` computes, by elementary operations."""

    def __init__(self, norm: torch.nn.InstanceNorm3d) -> None:
        super().__init__()
        assert not norm.affine
        self.epsilon = norm.eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return standardised(x, (2, 3, 4), self.epsilon)


def torch_attention(image: torch.Tensor, move: torch.Tensor) -> torch.Tensor:
    """Logits (X, Y, Z, K) of an image (X, Y, Z, C) with ``move`` (x, y, z, K) added to tokens."""
    p = {
        name: torch.tensor(value, dtype=image.dtype)
        for name, value in attention_parameters().items()
    }
    tokens = torch.tanh(image @ p["embed"]) + move
    flat = tokens.reshape(-1, CHANNELS)
    q, k, v = (flat @ p[name] for name in ("query", "key", "value"))
    mixed = torch.softmax(q @ k.T, dim=-1) @ v + flat
    normed = standardised(mixed, (-1,), 1e-5)
    logits = torch.nn.functional.gelu(normed) @ p["logits"]
    return logits.reshape(*image.shape[:3], 2)


def torch_unet(name: str, layer: str) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """As `torch_attention`, for a MONAI U-Net with ``move`` added to a layer."""

    network = deepcopy(monai_network(name)).double()
    for path, module in list(network.named_modules()):
        if isinstance(module, torch.nn.InstanceNorm3d):
            network.set_submodule(path, WrittenOutInstanceNorm(module))

    def logits(image: torch.Tensor, move: torch.Tensor) -> torch.Tensor:
        module = network.get_submodule(module_path(name, layer))
        addition = torch.movedim(move, -1, 0)[None]
        handle = module.register_forward_hook(lambda module, inputs, output: output + addition)
        try:
            found = network(torch.movedim(image, -1, 0)[None])
        finally:
            handle.remove()
        return torch.movedim(found[0], 0, -1)

    return logits


@dataclass(frozen=True)
class Small:
    """A network, a layer of it, and the same in PyTorch.

    Attributes:
        function: the network in JAX.
        parameters: its parameters.
        layer: name of the layer.
        peer: logits in PyTorch, from an image and an addition to the layer.
        image: (X, Y, Z, C).
    """

    function: Any
    parameters: Any
    layer: str
    peer: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    image: np.ndarray


def small(name: str) -> Small:
    """The network of that name: "attention", or a U-Net of `peers.NETWORKS`."""
    rng = np.random.default_rng(1)
    if name == "attention":
        image = rng.normal(size=(*SIZE, 2)).astype(np.float32)
        return Small(AttentionFunction(), attention_parameters(), "tokens", torch_attention, image)
    model = converted(name)
    image = rng.normal(size=(8, 12, 8, 2)).astype(np.float32)
    peer = torch_unet(name, "bottleneck")
    return Small(model.function, model.parameters, "bottleneck", peer, image)


def brute_force(
    network: Small, domain: np.ndarray, entries: np.ndarray, shape: tuple[int, ...]
) -> np.ndarray:
    """(E, 3): derivatives of a domain's summed logits along unit vectors of a layer, in float64.

    Args:
        network: the network and its layer.
        domain: (X, Y, Z), the weights of the sum.
        entries: (E,), each vector's place in the flattened layer.
        shape: the layer's.
    """
    image, weights = (torch.tensor(a, dtype=torch.float64) for a in (network.image, domain))
    units = torch.zeros(len(entries), *shape, dtype=torch.float64)
    units.reshape(len(entries), -1)[range(len(entries)), entries] = 1

    def score(step: torch.Tensor, unit: torch.Tensor) -> torch.Tensor:
        return (network.peer(image, step * unit)[..., 1] * weights).sum()

    first = torch.func.grad(score)
    second = torch.func.grad(first)
    third = torch.func.grad(second)
    zero = torch.zeros((), dtype=torch.float64)
    orders = [
        torch.vmap(order, in_dims=(None, 0), chunk_size=48)(zero, units)
        for order in (first, second, third)
    ]
    return torch.stack(orders, -1).numpy()
