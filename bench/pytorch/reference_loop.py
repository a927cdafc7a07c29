"""The published scripts' loop: the whole volume, one backward pass per voxel and noise sample.

The graph of one forward pass over the whole volume is retained; for every voxel of every lesion,
`backward` from its logit to the image. The network's parameters require gradients, as in the
scripts, so that each pass computes theirs too.
"""

from __future__ import annotations

import numpy as np
import torch

from bench.case import TARGET, Case
from bench.pytorch.network import torch_device
from bench.pytorch.outcome import Clock, Maps


def run(network: torch.nn.Module, case: Case) -> tuple[dict[int, np.ndarray], Clock]:
    """Signed-maximum maps (X, Y, Z, C) by label, and the time."""
    network = network.requires_grad_(True).to(torch_device())
    shape = case.image.shape[:3]
    whole = np.zeros(3, int), np.array(shape)
    lesions = case.lesions
    maps = Maps(dict.fromkeys(lesions, whole), len(case.noise), case.image.shape[-1])
    clock = Clock()
    for sample, noise in enumerate(case.noise):
        noisy = torch.from_numpy(np.moveaxis(case.image + noise, -1, 0)[None].copy())
        noisy = noisy.to(torch_device()).requires_grad_(True)
        with clock.forward():
            logits = network(noisy)[0, TARGET]
        for label, voxels in lesions.items():
            for voxel in voxels.tolist():
                with clock.pull_back(1):
                    noisy.grad = None
                    logits[tuple(voxel)].backward(retain_graph=True)
                    assert noisy.grad is not None
                    maps.add(label, sample, noisy.grad, whole[0])
    network.zero_grad()
    return maps.dense(shape), clock
