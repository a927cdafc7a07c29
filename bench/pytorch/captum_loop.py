"""Captum's `Saliency` under its `NoiseTunnel`, once per voxel and noise sample.

`NoiseTunnel` averages over its samples before a maximum over voxels could be taken, so it is called
with one sample per noisy image; to make its maps comparable, that sample is ours, and the noise
that it adds has a standard deviation of zero. It runs on the windows of `bench.pytorch.windows`,
which spares it the whole volume.
"""

from __future__ import annotations

import numpy as np
import torch

from bench.case import TARGET, Case
from bench.pytorch.network import frozen, torch_device
from bench.pytorch.outcome import Clock
from bench.pytorch.windows import empty_maps, windows_of


def run(network: torch.nn.Module, case: Case) -> tuple[dict[int, np.ndarray], Clock]:
    """Signed-maximum maps (X, Y, Z, C) by label, and the time, all counted as gradients'."""
    from captum.attr import NoiseTunnel, Saliency

    tunnel = NoiseTunnel(Saliency(frozen(network)))
    windows, clock = windows_of(case), Clock()
    maps = empty_maps(case, windows)
    for window in windows:
        for sample in range(len(case.noise)):
            images = window.cut(case.image + case.noise[sample : sample + 1])
            x = torch.from_numpy(images).to(torch_device())
            for label, voxel in zip(window.labels.tolist(), window.voxels.tolist(), strict=True):
                with clock.pull_back(1):
                    gradient = tunnel.attribute(
                        x,
                        nt_type="smoothgrad",
                        nt_samples=1,
                        stdevs=0.0,
                        target=(TARGET, *voxel),
                        abs=False,
                    )
                    maps.add(label, sample, gradient, window.start)
    return maps.dense(case.image.shape[:3]), clock
