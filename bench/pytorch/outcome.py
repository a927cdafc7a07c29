"""What a peer hands back: maps, and the time of its forward passes and pull-backs apart."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch

from bench.pytorch.network import synchronise, torch_device


@dataclass
class Clock:
    """Adds up times, by what they were spent on.

    Attributes:
        forwards: forward passes.
        forward_seconds: spent on them.
        gradients: voxels × samples pulled back.
        gradient_seconds: spent on them, maxima included.
    """

    forwards: int = 0
    forward_seconds: float = 0.0
    gradients: int = 0
    gradient_seconds: float = 0.0

    @contextmanager
    def forward(self, count: int = 1) -> Iterator[None]:
        """Times forward passes."""
        synchronise()
        before = time.perf_counter()
        yield
        synchronise()
        self.forwards += count
        self.forward_seconds += time.perf_counter() - before

    @contextmanager
    def pull_back(self, gradients: int) -> Iterator[None]:
        """Times gradients."""
        synchronise()
        before = time.perf_counter()
        yield
        synchronise()
        self.gradients += gradients
        self.gradient_seconds += time.perf_counter() - before

    @property
    def seconds(self) -> float:
        """All of it."""
        return self.forward_seconds + self.gradient_seconds


@dataclass
class Maps:
    """Signed maxima of gradients by lesion and noise sample, on a box of the volume each."""

    boxes: dict[int, tuple[np.ndarray, np.ndarray]]
    samples: int
    channels: int
    dtype: torch.dtype = torch.float32
    maxima: dict[int, torch.Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for label, (low, high) in self.boxes.items():
            size = (self.samples, self.channels, *(high - low).tolist())
            self.maxima[label] = torch.zeros(size, dtype=self.dtype, device=torch_device())

    def add(self, label: int, sample: int, gradients: torch.Tensor, start: np.ndarray) -> None:
        """Takes gradients (N, C, x, y, z) on a window into account, of the samples from one on."""
        low = self.boxes[label][0]
        box = tuple(
            slice(s - o, s - o + n)
            for s, o, n in zip(start.tolist(), low.tolist(), gradients.shape[2:], strict=True)
        )
        part = self.maxima[label][(slice(sample, sample + len(gradients)), slice(None), *box)]
        part.copy_(torch.where(gradients.abs() > part.abs(), gradients, part))

    def dense(self, shape: tuple[int, ...]) -> dict[int, np.ndarray]:
        """The mean over the samples on the whole grid: (X, Y, Z, C) by label."""
        found = {}
        for label, maxima in self.maxima.items():
            low, high = self.boxes[label]
            full = np.zeros((*shape, self.channels), maxima.cpu().numpy().dtype)
            values = np.moveaxis(maxima.mean(0).cpu().numpy(), 0, -1)
            full[tuple(map(slice, low, high))] = values
            found[label] = full
        return found
