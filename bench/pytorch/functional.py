"""``torch.func``: `vmap` over the voxels of `vjp`, on the windows of `bench.pytorch.windows`.

On a GPU under `torch.compile`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch.func import vjp, vmap

from bench.case import TARGET, Case
from bench.pytorch.network import frozen, torch_device
from bench.pytorch.outcome import Clock
from bench.pytorch.windows import empty_maps, one_hots, windows_of

VOXELS = {"cpu": 8, "cuda": 24}  # pulled back at once
Gradients = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def gradients_of(network: torch.nn.Module) -> Gradients:
    """From a window (1, C, x, y, z) and cotangents (V, 1, x, y, z) to gradients (V, 1, C, …)."""
    network = frozen(network)

    def gradients(x: torch.Tensor, cotangents: torch.Tensor) -> torch.Tensor:
        pull = vjp(lambda window: network(window)[:, TARGET], x)[1]
        return vmap(pull)(cotangents)[0]

    return torch.compile(gradients) if torch_device().type == "cuda" else gradients


def run(gradients: Gradients, case: Case) -> tuple[dict[int, np.ndarray], Clock]:
    """Signed-maximum maps (X, Y, Z, C) by label, and the time, all counted as gradients'.

    Args:
        gradients: of `gradients_of`, kept between runs so that it is compiled once.
        case: what to compute.
    """
    windows, clock = windows_of(case), Clock()
    maps = empty_maps(case, windows)
    size = VOXELS[torch_device().type]
    for window in windows:
        for sample in range(len(case.noise)):
            images = window.cut(case.image + case.noise[sample : sample + 1])
            x = torch.from_numpy(images).to(torch_device())
            for labels, voxels in window.chunks(size):
                # for the compiler a batch of one size, as every other is compiled anew
                missing = size - len(voxels) if x.is_cuda else 0
                filled = np.concatenate([voxels, voxels[[-1] * missing]])
                with clock.pull_back(len(voxels)):
                    found = gradients(x, one_hots(x[:, 0], filled))
                    for label, gradient in zip(labels.tolist(), found, strict=False):
                        maps.add(label, sample, gradient, window.start)
    return maps.dense(case.image.shape[:3]), clock
