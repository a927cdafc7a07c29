"""How many forward passes a second do occlusion and deletion take?

Beside PyTorch: the same window, weights and masks for both. jaxsal's are all of a lesion's
question, from masks on the host to the lesion's logits; PyTorch infills a window on the device,
runs the network without a graph and takes the lesion's mean logit. Each in the batches that were
fastest for a few masks, PyTorch also in the faster of two memory formats. They take turns.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

import jaxsal
from bench.case import TARGET
from bench.compiling import timed_apart
from bench.nets import PAPER_NETWORKS
from bench.networks import TOY_NETWORKS, voxels_in_a_window
from bench.options import base_job, job_settings
from bench.record import Result, Row
from jaxsal.box import Box
from jaxsal.model import Model
from jaxsal.saliency.hiding import Hiding, Question, answers

_BOX = 1 / 8  # edge of a box, as a share of the window's


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the benchmark's options."""
    parser.add_argument("--networks", nargs="+", choices=PAPER_NETWORKS, default=[*PAPER_NETWORKS])
    parser.add_argument("--window", type=int, default=96, help="side; default: 96 voxels")
    parser.add_argument(
        "--masks",
        type=int,
        default=11,  # with the image itself full batches of 4
        help="how many of each kind; default: %(default)s",
    )
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 4])
    parser.add_argument("--best-of", type=int, default=2)


def run(options: argparse.Namespace) -> Result:
    """Measures."""
    from bench.pytorch import network as pytorch

    pytorch.prepare(options.precision)
    if options.toy:
        networks = [(network.name, network.model(width), 8) for network, width in TOY_NETWORKS]
        masks, batches, rounds = 3, [1, 2], 1
    else:
        chosen = [PAPER_NETWORKS[key] for key in options.networks]
        networks = [
            (each.name, each.model().with_precision(options.precision), options.window)
            for each in chosen
        ]
        masks, batches, rounds = options.masks, options.batches, options.best_of
    rows = [
        _row(name, kind, model, question, batches, rounds)
        for name, model, side in networks
        for kind, question in _questions(model, side, masks).items()
    ]
    notes = [
        f"PyTorch ran on {pytorch.describe()}. Random weights and images; one window.",
        f"occlusion: boxes of {_BOX:g} of the window's side; deletion: voxels here and there, as "
        "those that a map ranks first. passes: forward passes of the network.",
        "difference: of the lesion's mean logit between the two, the largest, relative to the "
        "largest change that a mask makes. Seconds are without compilation.",
    ]
    return Result("occlusion", job_settings(base_job(options)), rows, notes)


def _questions(model: Model, side: int, masks: int) -> dict[str, tuple[np.ndarray, Question]]:
    """By kind an image (X, Y, Z, C), and what is hidden of it around a lesion in its middle."""
    image = voxels_in_a_window(model, side, 1, 1).image
    middle = np.indices((2, 2, 2)).reshape(3, -1).T + side // 2 - 1
    random, everywhere = np.random.default_rng(1), np.ones(image.shape[-1], bool)
    edge = max(1, round(side * _BOX))
    corners = random.integers(0, side - edge + 1, (masks, 3))
    boxes = [
        Hiding(Box.at(c, 3 * (edge,)), np.ones(3 * (edge,), bool), everywhere) for c in corners
    ]
    whole = Box.whole(image.shape[:3])
    scattered = [
        Hiding(whole, random.random(whole.shape) < share, everywhere)
        for share in np.linspace(0.005, 0.5, masks)
    ]
    infill = np.zeros_like(image)
    return {
        "occlusion": (image, Question(middle, infill, boxes)),
        "deletion": (image, Question(middle, infill, scattered)),
    }


def _row(
    name: str,
    kind: str,
    model: Model,
    asked: tuple[np.ndarray, Question],
    batches: list[int],
    rounds: int,
) -> Row:
    image, question = asked
    passes = 1 + len(question.hidings)
    few = replace(question, hidings=question.hidings[: max(batches) - 1])
    peers = {"jaxsal": _by_jaxsal, "pytorch": _by_torch}
    chosen: dict[str, str] = {}
    compiling = 0.0
    for whose, variants in peers.items():
        seconds = {}
        for how, compute in variants(model, image, few, batches).items():
            compiling += timed_apart(compute)[2]  # first calls, which libraries tune in, too
            seconds[how] = timed_apart(compute)[1]
        chosen[whose] = min(seconds, key=seconds.__getitem__)
    asking = {
        whose: variants(model, image, question, batches)[chosen[whose]]
        for whose, variants in peers.items()
    }
    best = dict.fromkeys(peers, np.inf)
    scores: dict[str, np.ndarray] = {}
    for _ in range(rounds):
        for whose, compute in asking.items():
            scores[whose], taken, _ = timed_apart(compute)
            best[whose] = min(best[whose], taken)
    change = np.abs(scores["pytorch"][1:] - scores["pytorch"][0]).max()
    rates = {whose: passes / seconds for whose, seconds in best.items()}
    return {
        "network": name,
        "masks": kind,
        "window": image.shape[0],
        "passes": passes,
        "jaxsal_passes_per_s": rates["jaxsal"],
        "pytorch_passes_per_s": rates["pytorch"],
        "jaxsal_per_pytorch": rates["jaxsal"] / rates["pytorch"],
        "jaxsal_how": chosen["jaxsal"],
        "pytorch_how": chosen["pytorch"],
        "difference": float(np.abs(scores["jaxsal"] - scores["pytorch"]).max() / change),
        "compile_s": compiling,
    }


def _by_jaxsal(
    model: Model, image: np.ndarray, question: Question, batches: list[int]
) -> dict[str, Callable[[], np.ndarray]]:
    """By batch."""
    field = jaxsal.whole_volume(model)

    def running(batch: int) -> Callable[[], np.ndarray]:
        def run() -> np.ndarray:
            (found,) = answers(
                field,
                image,
                [question],
                lambda logits: logits[:, TARGET].mean(),
                most_voxels=len(question.voxels),
                batch=batch,
            )
            return found

        return run

    return {f"batch {batch}": running(batch) for batch in batches}


def _by_torch(
    model: Model, image: np.ndarray, question: Question, batches: list[int]
) -> dict[str, Callable[[], np.ndarray]]:
    """By memory format and batch."""
    import torch

    from bench.pytorch.network import frozen, torch_device, torch_network

    whole = torch_network(model)
    device, found = torch_device(), {}
    seen = torch.from_numpy(np.moveaxis(image, -1, 0)[None].copy()).to(device)
    infill = torch.from_numpy(np.moveaxis(question.infill, -1, 0)[None].copy()).to(device)
    none = np.zeros(image.shape[:3], bool)
    hidden = torch.from_numpy(
        np.stack([none, *(h.box.place(h.where, none.shape) for h in question.hidings)])
    )
    x, y, z = torch.from_numpy(question.voxels.T.copy()).to(device)

    def running(network: torch.nn.Module, memory_format: Any, batch: int) -> Any:
        @torch.inference_mode()
        def run() -> np.ndarray:
            scores = []
            for masks in hidden.split(batch):
                where = masks[:, None].to(device)
                images = torch.where(where, infill, seen).contiguous(memory_format=memory_format)
                logits = network(images)[:, TARGET]
                scores.append(logits[:, x, y, z].mean(1).cpu())
            mean: np.ndarray = torch.cat(scores).numpy()
            return mean

        return run

    for name, memory_format in (
        ("channels-first", torch.contiguous_format),
        ("channels-last", torch.channels_last_3d),
    ):
        network = frozen(whole, memory_format)
        for batch in batches:
            found[f"{name}, batch {batch}"] = running(network, memory_format, batch)
    return found
