"""How far is the closed form of Grad-CAM++ from the exact map, and what does each mode cost?

For the paper's networks, at a layer of the encoder, the bottleneck and a layer of the decoder. The
exact mode runs the network above the layer for every unit vector of it, so the networks with
instance norm or attention are narrower and their windows smaller than the paper's, as the table
says; ``--width 1 --size 96`` makes them whole.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

import jaxsal
from bench.case import TARGET, TINY_UNET, Case, make_case
from bench.compiling import timed_apart
from bench.nets import PAPER_NETWORKS, PaperNetwork, narrowest, trained_unet
from bench.options import base_job, job_settings
from bench.patient import cropped, patient_case
from bench.record import Result, Row
from jaxsal.model import Model
from jaxsal.saliency.gradcam.upper_network import UpperNetwork
from jaxsal.types import Triple

PARTS = ("encoder", "bottleneck", "decoder")
_LESION = 24  # voxels
_FEWEST = 8  # positions between which a correlation tells anything
_UNET_SIZE = 96
_PROBES = (64, 256, 1024)
TOY_NETWORK = PaperNetwork(
    "toy",
    "unet",
    TINY_UNET | {"norm": "instance"},
    ("encoder.0", "bottleneck", "decoder.0.joined"),
    (4, 4, 4),
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the benchmark's options."""
    parser.add_argument("--patient", default="07")
    parser.add_argument("--networks", nargs="+", choices=PAPER_NETWORKS, default=[*PAPER_NETWORKS])
    parser.add_argument(
        "--size",
        type=int,
        default=12,
        help="least side of the windows of networks other than the U-Net; default: %(default)s",
    )
    parser.add_argument(
        "--width",
        type=float,
        help="their share of the paper's features; default: a quarter, of Swin UNETR a sixth",
    )
    parser.add_argument(
        "--parts",
        nargs="+",
        choices=PARTS,
        help="whose layers; default: all, of Swin UNETR the bottleneck",
    )
    parser.add_argument(
        "--probes",
        nargs="*",
        type=int,
        help="of the stochastic mode; default: 64, 256 and 1024, with Swin UNETR none",
    )


def run(options: argparse.Namespace) -> Result:
    """Measures."""
    rows: list[Row] = []
    job = replace(base_job(options), samples=1)
    if options.toy:
        case, name = make_case(replace(job, shape=(8, 8, 8), lesions=(3,))), "random images"
        toy = TOY_NETWORK
        rows += [_row(toy, layer, toy.model(), case, "random", [2, 4]) for layer in toy.layers]
    else:
        scan, name = patient_case(job, options.shared, options.patient, (_LESION,))
        for key in options.networks:
            network = PAPER_NETWORKS[key]
            model, window, weights = _prepared(network, options)
            case, (parts, probes) = cropped(scan, 1, window), _extent(network, options)
            for part, layer in zip(PARTS, network.layers, strict=True):
                if part in parts:
                    rows.append(_row(network, layer, model, case, weights, probes))
    notes = [
        f"one lesion of {name}, on a window around it.",
        "weights: of the network, the trained or random ones; features: on the finest level.",
        "unit vectors: of the layer. The exact mode goes along those whose first derivative is "
        "positive, as the others have no weight in the map; where the network is piecewise linear "
        "above the layer, all higher derivatives vanish and it goes along none.",
        "correlation (Pearson), relative difference (L2) and share on the wrong side of the map's "
        "ReLU (zero in one map, positive in the other): of the closed form's map from the exact "
        "one, over the layer's positions; no correlation of fewer than eight.",
        "stochastic N: N probes; difference: relative L2 of the map from the exact one.",
        "seconds are without compilation, which has its own column (all modes together; short "
        "where compiled programs were kept from an earlier run).",
    ]
    settings = job_settings(job) | {"patient": name, "size": options.size, "width": options.width}
    return Result("gradcam", settings, rows, notes)


def _extent(
    network: PaperNetwork, options: argparse.Namespace
) -> tuple[Sequence[str], Sequence[int]]:
    """Parts and numbers of probes; as asked for, or what takes minutes on a CPU."""
    is_slow = network.kind == "swin-unetr"
    parts = ("bottleneck",) if is_slow else PARTS
    probes = () if is_slow else _PROBES
    return (
        parts if options.parts is None else options.parts,
        probes if options.probes is None else options.probes,
    )


def _prepared(network: PaperNetwork, options: argparse.Namespace) -> tuple[Model, Triple, str]:
    """The network, the size of its window, and what its weights are."""
    if network.kind == "unet":
        trained = trained_unet(options.shared)
        model, weights = (trained, "trained") if trained else (network.model(), "random")
        return model.with_precision(options.precision), (_UNET_SIZE,) * 3, weights
    narrow = 1 / 6 if network.kind == "swin-unetr" else 1 / 4
    model = network.model(narrow if options.width is None else options.width)
    x, y, z = (
        math.ceil(max(n, options.size) / d) * d
        for n, d in zip(network.least, model.divisor, strict=True)
    )
    return model.with_precision(options.precision), (x, y, z), "random"


def _row(
    network: PaperNetwork,
    layer: str,
    model: Model,
    case: Case,
    weights: str,
    probes: Sequence[int],
) -> Row:
    upper = UpperNetwork(model.function, layer, TARGET)
    grid, channels = upper.shape(model.parameters, case.image.shape)
    explain = partial(
        jaxsal.gradcam_plus_plus, model, case.image, case.labels, layer=layer, target=TARGET
    )
    closed, _, first = _timed_map(explain, derivatives="closed-form")
    _, closed_s, _ = _timed_map(explain, derivatives="closed-form")  # nothing is traced any more
    exact, exact_s, second = _timed_map(explain, derivatives="exact")
    row = {
        "network": network.name,
        "layer": layer,
        "weights": weights,
        "window": "×".join(map(str, case.image.shape[:3])),
        "features": narrowest(model.config),
        "grid": "×".join(map(str, grid)),
        "unit_vectors": math.prod(grid) * channels,
        **compare(closed, exact),
        "closed_form_s": closed_s,
        "exact_s": exact_s,
        "compile_s": first + second,
    }
    if upper.is_piecewise_linear(model.parameters, case.image.shape):
        return row
    for count in probes:
        found, seconds, compiling = _timed_map(explain, derivatives="stochastic", probes=count)
        row[f"stochastic_{count}_s"] = seconds
        row[f"stochastic_{count}_difference"] = relative_difference(found, exact)
        row["compile_s"] += compiling
    return row


def _timed_map(explain: Callable[..., Any], **mode: Any) -> tuple[np.ndarray, float, float]:
    """The map (x, y, z) on the layer's grid, the seconds it took, and those of compiling."""
    maps, seconds, compiling = timed_apart(lambda: explain(**mode))
    return maps.native(1), seconds, compiling


def compare(found: np.ndarray, exact: np.ndarray) -> Row:
    """How far a map is from the exact one."""
    varied = exact.size >= _FEWEST and min(found.std(), exact.std()) > 0
    return {
        "correlation": float(np.corrcoef(found.ravel(), exact.ravel())[0, 1]) if varied else None,
        "relative_difference": relative_difference(found, exact),
        "wrong_side_of_relu": float(((found > 0) != (exact > 0)).mean()),
    }


def relative_difference(found: np.ndarray, exact: np.ndarray) -> float | None:
    """L2 norm of the difference over that of the exact map; None if that one is zero."""
    norm = np.linalg.norm(exact)
    return float(np.linalg.norm(found - exact) / norm) if norm else None
