"""What do a forward pass and a voxel's gradient cost with each of the paper's networks?

Beside PyTorch: the same window, weights and noise for both; PyTorch takes one forward pass per
noise sample, keeps its graph, pulls one voxel after the other back through the whole window,
without gradients of weights, each in the faster of two memory formats.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

import jaxsal
from bench.case import TARGET, TINY_UNET, Case, dense_maps, make_noise
from bench.ceilings import SHARES_NOTE, Ceilings, measure_ceilings
from bench.compiling import timed_apart
from bench.nets import PAPER_NETWORKS, PaperNetwork
from bench.options import base_job, job_settings, timed
from bench.record import Result, Row
from bench.visits import window_work
from jaxsal.model import Model

TOY_NETWORKS = (
    (PaperNetwork("toy U-Net", "unet", TINY_UNET, ("", "", ""), (4, 4, 4)), 1.0),
    (PAPER_NETWORKS["dynunet"], 1 / 8),
)
KINKS_NOTE = (
    "Where an activation with a kink has an input that is zero within float32's rounding, either "
    "slope is right, and float32 differs from float64 in PyTorch as well."
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the benchmark's options."""
    parser.add_argument("--networks", nargs="+", choices=PAPER_NETWORKS, default=[*PAPER_NETWORKS])
    parser.add_argument(
        "--windows", nargs="+", type=int, default=[64, 96], help="sides; default: 64 and 96 voxels"
    )
    parser.add_argument(
        "--swin-features",
        nargs="+",
        type=int,
        default=[24],
        help="of Swin UNETR's embedding; default: %(default)s, as in the paper",
    )
    parser.add_argument("--voxels", type=int, default=6)
    parser.add_argument("--noisy", type=int, default=1, help="number of noise samples")
    parser.add_argument("--best-of", type=int, default=2)


def run(options: argparse.Namespace) -> Result:
    """Measures."""
    from bench.pytorch import network as pytorch

    pytorch.prepare(options.precision)
    ceilings = measure_ceilings(options.precision, toy=options.toy)
    if options.toy:
        rounds, networks = 1, [(n.name, n.model(width), 8) for n, width in TOY_NETWORKS]
        voxels, samples = 2, 2
    else:
        rounds, networks = options.best_of, _networks(options)
        voxels, samples = options.voxels, options.noisy
    rows = [
        _row(name, voxels_in_a_window(model, side, voxels, samples), rounds, ceilings)
        for name, model, side in networks
    ]
    notes = [
        f"PyTorch ran on {pytorch.describe()}. Random weights and images.",
        "forward: a pass that keeps nothing for derivatives. gradient: of a voxel and noise "
        "sample, with its share of the forward passes; jaxsal's is that of the whole call. Ratios: "
        "of PyTorch's time to jaxsal's.",
        "difference: of a voxel's gradient from PyTorch's, the largest, relative to its peak; "
        "compile s: in jaxsal's first call, besides; short where compiled programs were kept.",
        KINKS_NOTE,
        SHARES_NOTE + " Of jaxsal's gradient, its share of a forward pass included.",
        ceilings.note,
    ]
    settings = job_settings(base_job(options)) | ceilings.settings
    return Result("networks", settings, rows, notes)


def _networks(options: argparse.Namespace) -> list[tuple[str, Model, int]]:
    """Names of networks with random weights, and the sides of the windows for each."""
    found = []
    for key in options.networks:
        network = PAPER_NETWORKS[key]
        variants = {network.name: network}
        if key == "swin-unetr":
            variants = {
                f"{network.name}, {features} features": replace(
                    network, arguments={**network.arguments, "feature_size": features}
                )
                for features in options.swin_features
            }
        for name, variant in variants.items():
            model = variant.model().with_precision(options.precision)
            found += [(name, model, side) for side in options.windows]
    return found


def voxels_in_a_window(model: Model, side: int, voxels: int, samples: int) -> Case:
    """A window of random numbers with lesions of a voxel each, in its middle half."""
    random = np.random.default_rng(0)
    image = random.standard_normal((side, side, side, len(model.channels)), np.float32)
    labels = np.zeros(image.shape[:3], np.int32)
    inner = labels[(slice(side // 4, side - side // 4),) * 3]
    chosen = random.choice(inner.size, voxels, replace=False)
    inner[np.unravel_index(chosen, inner.shape)] = np.arange(1, voxels + 1)
    return Case(model, image, labels, make_noise(image, samples))


def _row(name: str, case: Case, rounds: int, ceilings: Ceilings) -> Row:
    field = jaxsal.whole_volume(case.model)
    _, _, compiling = timed_apart(lambda: dense_maps(field, case))
    runs = [timed_apart(lambda: dense_maps(field, case)) for _ in range(rounds)]
    seconds = min(run[1] for run in runs) / case.gradients
    forward = _forward_seconds(case, rounds)
    theirs = _by_torch(case, rounds)
    differences = [
        np.abs(found - theirs.maps[label]).max() / np.abs(theirs.maps[label]).max()
        for label, found in runs[0][0].items()
    ]
    return {
        "network": name,
        "window": case.image.shape[0],
        "gradients": case.gradients,
        "jaxsal_forward_ms": 1000 * forward,
        "pytorch_forward_ms": 1000 * theirs.forward,
        "forward_ratio": theirs.forward / forward,
        "jaxsal_ms_per_gradient": 1000 * seconds,
        "pytorch_ms_per_gradient": 1000 * theirs.gradient,
        "pytorch_per_jaxsal": theirs.gradient / seconds,
        "pytorch_formats": theirs.formats,
        "difference": float(max(differences)),
        "compile_s": compiling,
        **ceilings.shares(window_work(case), seconds),
    }


def _forward_seconds(case: Case, rounds: int) -> float:
    """Of one pass of jaxsal."""
    batch = jnp.asarray(case.image[None])
    timed(lambda: case.model(batch))
    return min(timed(lambda: case.model(batch))[1] for _ in range(rounds + 1))


class _Torch(NamedTuple):
    """PyTorch's maps (X, Y, Z, C) by label, its seconds, and the formats that took the fewest."""

    maps: dict[int, np.ndarray]
    forward: float
    gradient: float
    formats: str


def _by_torch(case: Case, rounds: int) -> _Torch:
    import torch

    formats = {
        "channels-first": torch.contiguous_format,
        "channels-last": torch.channels_last_3d,
    }
    forwards, gradients, maps = {}, {}, {}
    for name, memory_format in formats.items():
        found = [_torch_maps(case, memory_format) for _ in range(rounds)]
        gradients[name] = min(seconds for _, seconds in found) / case.gradients
        forwards[name] = _torch_forward_seconds(case, memory_format, rounds)
        maps = found[0][0]
    best = [min(times, key=times.__getitem__) for times in (forwards, gradients)]
    return _Torch(maps, forwards[best[0]], gradients[best[1]], ", ".join(dict.fromkeys(best)))


def _torch_forward_seconds(case: Case, memory_format: Any, rounds: int) -> float:
    """Of one pass without a graph."""
    import torch

    from bench.pytorch.network import frozen, torch_device, torch_network
    from bench.pytorch.outcome import Clock

    network, seconds = frozen(torch_network(case.model), memory_format), []
    batch = torch.from_numpy(np.moveaxis(case.image, -1, 0)[None].copy())
    batch = batch.to(torch_device(), memory_format=memory_format)
    for _ in range(rounds + 2):  # the first one chooses algorithms
        clock = Clock()
        with torch.inference_mode(), clock.forward():
            network(batch)
        seconds.append(clock.seconds)
    return min(seconds[1:])


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
