"""The whole-volume field in plain PyTorch, as fast as it can be made without other tools.

No gradients of weights. Each voxel is pulled back on the smallest aligned window that computes its
logit exactly; voxels that share a window share its forward pass, whose graph is retained.
Variants: the memory format, several noise samples in one batch, several voxels in one pull-back
(`is_grads_batched`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from bench.case import TARGET, Case
from bench.pytorch.network import frozen, torch_device
from bench.pytorch.outcome import Clock, Maps
from bench.receptive import exact_crop

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Variant:
    """A way of doing it.

    Attributes:
        channels_last: memory format of weights and images.
        voxels: pulled back at once; 1: by `torch.autograd.grad` without batching.
        together: all noise samples in one batch.
    """

    channels_last: bool = False
    voxels: int = 1
    together: bool = False

    @property
    def name(self) -> str:
        """As shown."""
        parts = ["channels-last" if self.channels_last else "channels-first"]
        parts += [f"{self.voxels} voxels batched"] * (self.voxels > 1)
        return ", ".join(parts + ["noise batched"] * self.together)


def variants() -> list[Variant]:
    """Those worth trying here."""
    found = [Variant(), Variant(channels_last=True), Variant(together=True), Variant(voxels=8)]
    if torch.cuda.is_available():
        found += [Variant(voxels=24, channels_last=c, together=True) for c in (False, True)]
    return found


@dataclass(frozen=True)
class Window:
    """Voxels that share a window.

    Attributes:
        start: (3,) its first position.
        size: its extent.
        labels: (V,) the lesion of each voxel.
        voxels: (V, 3) positions within the window.
    """

    start: np.ndarray
    size: tuple[int, ...]
    labels: np.ndarray
    voxels: np.ndarray

    def chunks(self, size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Labels and voxels, some at a time."""
        for first in range(0, len(self.labels), size):
            yield self.labels[first : first + size], self.voxels[first : first + size]

    def cut(self, images: np.ndarray) -> np.ndarray:
        """The window of images (N, X, Y, Z, C), channels first: (N, C, x, y, z)."""
        box = tuple(slice(s, s + n) for s, n in zip(self.start.tolist(), self.size, strict=True))
        return np.ascontiguousarray(np.moveaxis(images[(slice(None), *box)], -1, 1))


def windows_of(case: Case) -> list[Window]:
    """The windows of all lesion voxels."""
    shape = case.image.shape[:3]
    groups: dict[tuple[Shape, Shape], list[tuple[int, np.ndarray]]] = {}
    for label, voxels in case.lesions.items():
        for voxel in voxels:
            crop = exact_crop(case.model.config, voxel, shape)
            groups.setdefault(crop, []).append((label, voxel - np.array(crop[0])))
    found = []
    for (start, size), members in groups.items():
        labels, voxels = zip(*members, strict=True)
        found.append(Window(np.array(start), size, np.array(labels), np.array(voxels)))
    return found


def empty_maps(case: Case, windows: list[Window], dtype: torch.dtype = torch.float32) -> Maps:
    """Zero maps, each on a box that holds all windows of its lesion."""
    boxes = {}
    for label in case.lesions:
        own = [w for w in windows if label in w.labels]
        low = np.min([w.start for w in own], axis=0)
        boxes[label] = low, np.max([w.start + w.size for w in own], axis=0)
    return Maps(boxes, len(case.noise), case.image.shape[-1], dtype)


def run(
    network: torch.nn.Module,
    case: Case,
    variant: Variant | None = None,
    dtype: torch.dtype = torch.float32,
) -> tuple[dict[int, np.ndarray], Clock]:
    """Signed-maximum maps (X, Y, Z, C) by label, and the time."""
    variant = variant or Variant()
    memory_format = torch.channels_last_3d if variant.channels_last else torch.contiguous_format
    network = frozen(network, memory_format, dtype)
    windows = windows_of(case)
    maps, clock = empty_maps(case, windows, dtype), Clock()
    step = len(case.noise) if variant.together else 1
    for window in windows:
        for sample in range(0, len(case.noise), step):
            images = window.cut(case.image + case.noise[sample : sample + step])
            x = torch.from_numpy(images).to(torch_device(), dtype, memory_format=memory_format)
            x.requires_grad_(True)
            with clock.forward(step):
                logits = network(x)[:, TARGET]
            for labels, voxels in window.chunks(variant.voxels):
                with clock.pull_back(step * len(voxels)):
                    gradients = _gradients(logits, x, voxels)
                    for label, gradient in zip(labels.tolist(), gradients, strict=True):
                        maps.add(label, sample, gradient, window.start)
    return maps.dense(case.image.shape[:3]), clock


def _gradients(logits: torch.Tensor, x: torch.Tensor, voxels: np.ndarray) -> torch.Tensor:
    """(V, N, C, x, y, z) gradients of the logits of V voxels."""
    if len(voxels) == 1:
        total = logits[(slice(None), *voxels[0].tolist())].sum()
        return torch.autograd.grad(total, x, retain_graph=True)[0][None]
    cotangents = one_hots(logits, voxels)
    batched = {"retain_graph": True, "is_grads_batched": True}
    return torch.autograd.grad(logits, x, cotangents, **batched)[0]


def one_hots(logits: torch.Tensor, voxels: np.ndarray) -> torch.Tensor:
    """(V, N, x, y, z): one at a voxel each."""
    cotangents = torch.zeros((len(voxels), *logits.shape), dtype=logits.dtype, device=logits.device)
    for cotangent, voxel in zip(cotangents, voxels.tolist(), strict=True):
        cotangent[(slice(None), *voxel)] = 1
    return cotangents
