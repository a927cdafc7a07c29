"""What does a voxel's SmoothGrad cost with each of the paper's networks, beside PyTorch?

The same window, weights and noise for both; PyTorch takes one forward pass per noise sample, keeps
its graph, pulls one voxel after the other back through the whole window, without gradients of
weights, in the faster of two memory formats.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

import jaxsal
from bench.case import TARGET, TINY_UNET, Case, dense_maps, make_noise
from bench.compiling import timed_apart
from bench.nets import PAPER_NETWORKS, PaperNetwork
from bench.options import base_job, job_settings
from bench.record import Result, Row
from jaxsal.model import Model

_TOY_NETWORKS = (
    (PaperNetwork("toy U-Net", "unet", TINY_UNET, ("", "", ""), (4, 4, 4)), 1.0),
    (PAPER_NETWORKS["dynunet"], 1 / 8),
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the benchmark's options."""
    parser.add_argument("--networks", nargs="+", choices=PAPER_NETWORKS, default=[*PAPER_NETWORKS])
    parser.add_argument("--window", type=int, default=96, help="side; default: %(default)s voxels")
    parser.add_argument("--swin-window", type=int, default=64, help="that of Swin UNETR")
    parser.add_argument("--voxels", type=int, default=6)
    parser.add_argument("--noisy", type=int, default=1, help="number of noise samples")
    parser.add_argument("--best-of", type=int, default=2)


def run(options: argparse.Namespace) -> Result:
    """Measures."""
    from bench.pytorch import network as pytorch

    pytorch.prepare(options.precision)
    rows = []
    if options.toy:
        for network, width in _TOY_NETWORKS:
            rows.append(_row(network, _case(network.model(width), 8, 2, 2), 1))
    else:
        for key in options.networks:
            side = options.swin_window if key == "swin-unetr" else options.window
            network = PAPER_NETWORKS[key]
            model = network.model().with_precision(options.precision)
            case = _case(model, side, options.voxels, options.noisy)
            rows.append(_row(network, case, options.best_of))
    notes = [
        f"PyTorch ran on {pytorch.describe()}. Random weights and images.",
        "ms per gradient: of a voxel and noise sample, with their share of the forward passes; "
        "jaxsal's is that of the whole call.",
        "difference: of a voxel's gradient from PyTorch's, the largest, relative to its peak; "
        "compile s: in jaxsal's first call, besides; short where compiled programs were kept.",
    ]
    return Result("networks", job_settings(base_job(options)), rows, notes)


def _case(model: Model, side: int, voxels: int, samples: int) -> Case:
    """A window of random numbers with lesions of a voxel each, in its middle half."""
    random = np.random.default_rng(0)
    image = random.standard_normal((side, side, side, len(model.channels)), np.float32)
    labels = np.zeros(image.shape[:3], np.int32)
    inner = labels[(slice(side // 4, side - side // 4),) * 3]
    chosen = random.choice(inner.size, voxels, replace=False)
    inner[np.unravel_index(chosen, inner.shape)] = np.arange(1, voxels + 1)
    return Case(model, image, labels, make_noise(image, samples))


def _row(network: PaperNetwork, case: Case, rounds: int) -> Row:
    field = jaxsal.whole_volume(case.model)
    _, _, compiling = timed_apart(lambda: dense_maps(field, case))
    runs = [timed_apart(lambda: dense_maps(field, case)) for _ in range(rounds)]
    seconds = min(run[1] for run in runs)
    expected, torch_seconds, memory_format = _by_torch(case, rounds)
    difference = max(
        np.abs(found - expected[label]).max() / np.abs(expected[label]).max()
        for label, found in runs[0][0].items()
    )
    return {
        "network": network.name,
        "window": case.image.shape[0],
        "gradients": case.gradients,
        "jaxsal_ms_per_gradient": 1000 * seconds / case.gradients,
        "pytorch_ms_per_gradient": 1000 * torch_seconds / case.gradients,
        "pytorch_per_jaxsal": torch_seconds / seconds,
        "pytorch_format": memory_format,
        "difference": float(difference),
        "compile_s": compiling,
    }


def _by_torch(case: Case, rounds: int) -> tuple[dict[int, np.ndarray], float, str]:
    """Maps (X, Y, Z, C) by label, seconds, and the format that took the fewest."""
    import torch

    formats = {
        "channels-first": torch.contiguous_format,
        "channels-last": torch.channels_last_3d,
    }
    times, maps = {}, {}
    for name, memory_format in formats.items():
        found = [_torch_maps(case, memory_format) for _ in range(rounds)]
        times[name] = min(seconds for _, seconds in found)
        maps = found[0][0]
    best = min(times, key=times.__getitem__)
    return maps, times[best], best


def _torch_maps(case: Case, memory_format: Any) -> tuple[dict[int, np.ndarray], float]:
    import torch

    from bench.pytorch.network import frozen, torch_device, torch_network
    from bench.pytorch.outcome import Clock

    network, clock = frozen(torch_network(case.model), memory_format), Clock()
    maps = {label: np.zeros_like(case.image) for label in case.lesions}
    for noise in case.noise:
        batch = torch.from_numpy(np.moveaxis(case.image + noise, -1, 0)[None].copy())
        x = batch.to(torch_device(), memory_format=memory_format).requires_grad_(True)
        with clock.forward():
            logits = network(x)[0, TARGET]
        for label, voxels in case.lesions.items():
            with clock.pull_back(1):
                logit = logits[tuple(voxels[0].tolist())]
                gradient = torch.autograd.grad(logit, x, retain_graph=True)[0]
            maps[label] += np.moveaxis(gradient[0].cpu().numpy(), 0, -1) / len(case.noise)
    return maps, clock.seconds
