"""What a test needs to know of a network: how to build it in PyTorch, and how to convert it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import torch

from jaxsal.nets.registry import NetworkConfig


@dataclass(frozen=True)
class Case:
    """An architecture in PyTorch and its conversion.

    Attributes:
        source: builds the network, freshly initialised.
        convert: its entries -> our configuration and parameters.
        aliases: the source's module paths -> our layers.
        size: (X, Y, Z) of the images that it is tested on.
        in_channels: of these images.
        out_channels: of the logits.
        unused: pattern of module paths whose output does not enter the logits or has no layer of
            its own.
        unnamed: pattern of our layers that are no module of the source.
        axes: order in which the source takes (X, Y, Z).
        dtype: in which derivatives are compared: float64 for networks with so many leaky ReLUs
            that in float32 some have an input that is zero within rounding, and either slope.
    """

    source: Callable[[], torch.nn.Module]
    convert: Callable[[dict[str, np.ndarray]], tuple[NetworkConfig, dict[str, jax.Array]]]
    aliases: Callable[[Any], dict[str, str]]
    size: tuple[int, int, int]
    in_channels: int = 2
    out_channels: int = 2
    unused: str = r"(?!)"
    unnamed: str = r"(?!)"
    axes: tuple[int, int, int] = (0, 1, 2)
    dtype: str = "float32"

    def is_compared(self, path: str) -> bool:
        """Whether this module of the source must have a layer of ours."""
        return not re.search(self.unused, path)

    def is_named(self, layer: str) -> bool:
        """Whether this layer of ours must have a module of the source."""
        return not re.search(self.unnamed, layer)

    def to_torch(self, array: np.ndarray) -> torch.Tensor:
        """(B, X, Y, Z, C) -> (B, C, …) with the spatial axes in the source's order."""
        spatial = [1 + axis for axis in self.axes]
        return torch.from_numpy(array.transpose(0, 4, *spatial).copy())

    def from_torch(self, tensor: torch.Tensor) -> np.ndarray:
        """The inverse of `to_torch`."""
        spatial = [2 + self.axes.index(axis) for axis in range(3)]
        return tensor.detach().numpy().transpose(0, *spatial, 1).copy()


def randomised(network: torch.nn.Module) -> torch.nn.Module:
    """The network at inference, no statistic and no norm's or slope's value where it starts."""
    for key, tensor in network.state_dict().items():
        if tensor.ndim == 1 and key.endswith(("weight", "running_var")):
            tensor.uniform_(0.3, 1.5)
        elif key.endswith(("bias", "running_mean")):
            tensor.normal_(0, 0.3)
    return network.eval()


def arrays_of(network: torch.nn.Module) -> dict[str, np.ndarray]:
    """The entries of its state dict, without counters."""
    return {
        key: value.numpy()
        for key, value in network.state_dict().items()
        if not key.endswith("num_batches_tracked")
    }
