"""How many patches a second does a step of training take in, beside PyTorch and MONAI?

A step is the forward pass in training, normalised Dice and focal loss, the gradients of all
weights, and AdamW; the same weights, patches and settings for both, in turns, without augmentation.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
import optax

from bench.case import CHANNELS, TINY_UNET
from bench.nets import PAPER_NETWORKS, PaperNetwork
from bench.options import base_job, job_settings, timed
from bench.record import Result, Row
from jaxsal.devices import default_devices
from jaxsal.losses import DICE_AND_FOCAL
from jaxsal.model import Model
from jaxsal.nets.registry import config_from_arguments
from jaxsal.nets.training import TrainingFunction
from jaxsal.training.step import Placement, TrainingState, initial_state, make_update

_SMALL_UNET = {**TINY_UNET, "channels": [8, 16, 32, 64], "strides": [2, 2, 2]}
_RATE, _DECAY = 1e-3, 1e-2
_COMPARED = 3  # steps whose losses are compared

Step = Callable[[], tuple[float, float]]


class _Case(NamedTuple):
    """A network and the patches that it is trained on."""

    name: str
    model: Model
    images: np.ndarray
    labels: np.ndarray


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the benchmark's options."""
    parser.add_argument("--networks", nargs="+", choices=PAPER_NETWORKS, default=["unet"])
    parser.add_argument("--patch", type=int, help="side; default: 96 voxels on a GPU, else 64")
    parser.add_argument("--small-patch", type=int, default=48, help="that of a small U-Net")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)


def run(options: argparse.Namespace) -> Result:
    """Measures."""
    from bench.pytorch import network as pytorch

    pytorch.prepare(options.precision)
    if options.toy:
        rows = [_row(_case("toy U-Net", _unet(TINY_UNET), 8, 2), "float32", 1)]
    else:
        patch = options.patch or (64 if jax.default_backend() == "cpu" else 96)
        cases = [_case("small U-Net", _unet(_SMALL_UNET), options.small_patch, options.batch)]
        for key in options.networks:
            network: PaperNetwork = PAPER_NETWORKS[key]
            cases.append(_case(network.name, network.model(), patch, options.batch))
        rows = [_row(case, options.precision, options.rounds) for case in cases]
    notes = [
        f"PyTorch ran on {pytorch.describe()}, in the faster of two memory formats.",
        "patches per s: of the fastest step, the two taking turns; patches lie on the device.",
        f"difference: of the loss from PyTorch's in the first {_COMPARED} steps, the largest, "
        "relative; so of the updates too. compile s: of jaxsal's first step, itself included.",
    ]
    return Result("training", job_settings(base_job(options)), rows, notes)


def _unet(arguments: dict[str, object]) -> Model:
    return Model.initialise(config_from_arguments("unet", arguments), CHANNELS)


def _case(name: str, model: Model, side: int, batch: int) -> _Case:
    """Patches of random numbers, brighter where they are lesion: in each a few cubes."""
    random = np.random.default_rng(0)
    labels = np.zeros((batch, side, side, side), np.int32)
    for patch in labels:
        for number, first in enumerate(random.integers(0, side - 2, (3, 3)), start=1):
            patch[tuple(slice(n, n + max(side // 12, 2)) for n in first)] = number
    images = random.standard_normal((*labels.shape, len(model.channels)), np.float32)
    images += 2 * (labels > 0)[..., None]
    return _Case(name, model, images, labels)


def _row(case: _Case, precision: str, rounds: int) -> Row:
    ours, compiling = timed(lambda: _jaxsal_step(case, precision))
    theirs = _torch_steps_of(case)
    losses = [ours()[0] for _ in range(_COMPARED)]
    by_format = {name: [step()[0] for _ in range(_COMPARED)] for name, step in theirs.items()}
    difference = max(
        abs(found / expected - 1)
        for values in by_format.values()
        for found, expected in zip(losses, values, strict=True)
    )
    seconds = {"jaxsal": np.inf} | dict.fromkeys(theirs, np.inf)
    for _ in range(rounds):
        for name, step in {"jaxsal": ours, **theirs}.items():
            seconds[name] = min(seconds[name], step()[1])
    best = min(theirs, key=seconds.__getitem__)
    batch = len(case.images)
    return {
        "network": case.name,
        "patch": case.images.shape[1],
        "batch": batch,
        "jaxsal_patches_per_s": batch / seconds["jaxsal"],
        "pytorch_patches_per_s": batch / seconds[best],
        "jaxsal_per_pytorch": seconds[best] / seconds["jaxsal"],
        "pytorch_format": best,
        "difference": difference,
        "compile_s": compiling,
    }


def _jaxsal_step(case: _Case, precision: str) -> Step:
    """One step, compiled; a call returns its loss and its seconds."""
    network = TrainingFunction(case.model.config, precision)
    optimiser = optax.adamw(_RATE, weight_decay=_DECAY)
    placement = Placement(default_devices(), len(case.images))
    update = make_update(network, DICE_AND_FOCAL, optimiser, placement)

    def begin() -> TrainingState:
        return placement.put_state(
            initial_state(case.model.config, case.model.parameters, optimiser)
        )

    batch = placement.put_batch({"image": case.images, "labels": case.labels})
    jax.block_until_ready(update(begin(), *batch))  # compiles
    state = begin()

    def step() -> tuple[float, float]:
        nonlocal state
        (state, figures), seconds = timed(lambda: update(state, *batch))
        return float(figures["loss"]), seconds

    return step


def _torch_steps_of(case: _Case) -> dict[str, Step]:
    """PyTorch's step in each memory format."""
    import torch

    from bench.pytorch.training import torch_steps

    formats = {
        "channels-first": torch.contiguous_format,
        "channels-last": torch.channels_last_3d,
    }
    return {
        name: torch_steps(
            case.model, DICE_AND_FOCAL, case.images, case.labels, _RATE, _DECAY, memory_format
        )
        for name, memory_format in formats.items()
    }
