"""Do logits and maps of every network equal the CPU's, in float32?

The same weights, window and noise on the default device and on the CPU of its host; where there is
no other device, the CPU is compared with itself.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

import jaxsal
from bench.case import Case, dense_maps
from bench.nets import PAPER_NETWORKS, PaperNetwork
from bench.networks import TOY_NETWORKS, voxels_in_a_window
from bench.options import base_job, job_settings
from bench.record import Result, Row
from jaxsal.current_device import current_device
from jaxsal.devices import computing_on

TOLERANCE = 1e-4  # of the largest magnitude


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the benchmark's options."""
    parser.add_argument("--networks", nargs="+", choices=PAPER_NETWORKS, default=[*PAPER_NETWORKS])
    parser.add_argument("--window", type=int, default=64, help="side; default: %(default)s voxels")
    parser.add_argument("--voxels", type=int, default=4)


def run(options: argparse.Namespace) -> Result:
    """Compares."""
    if options.toy:
        rows = [_row(network, width, 8, 2) for network, width in TOY_NETWORKS]
    else:
        networks = [PAPER_NETWORKS[key] for key in options.networks]
        rows = [_row(network, 1.0, options.window, options.voxels) for network in networks]
    faults = [
        f"{row['network']}: {what.replace('_', ' ')} from the CPU is {row[what]:.2g}"
        for row in rows
        for what in ("logit_difference", "map_difference")
        if not row[what] <= TOLERANCE
    ]
    notes = [
        "random weights and images; maps of single voxels at one noise sample.",
        "difference: the largest from the CPU's, relative to the largest magnitude; at most "
        f"{TOLERANCE:g} is right.",
    ]
    return Result("agreement", job_settings(base_job(options)), rows, notes, faults)


class _Outcome(NamedTuple):
    """Logits (X, Y, Z, K), and maps (X, Y, Z, C) by label."""

    logits: np.ndarray
    maps: dict[int, np.ndarray]


def _row(network: PaperNetwork, width: float, side: int, voxels: int) -> Row:
    device = current_device().device_kind
    found = _computed(network, width, side, voxels)
    with computing_on("cpu"):
        expected = _computed(network, width, side, voxels)
    return {
        "network": network.name,
        "window": side,
        "device": device,
        "logit_difference": _difference({0: found.logits}, {0: expected.logits}),
        "map_difference": _difference(found.maps, expected.maps),
    }


def _computed(network: PaperNetwork, width: float, side: int, voxels: int) -> _Outcome:
    """On the default device, which holds the weights too."""
    case: Case = voxels_in_a_window(network.model(width), side, voxels, 1)
    logits = case.model(jnp.asarray(case.image)[None])[0]
    return _Outcome(np.asarray(logits), dense_maps(jaxsal.whole_volume(case.model), case))


def _difference(found: Mapping[int, np.ndarray], expected: Mapping[int, np.ndarray]) -> float:
    """NaN where there is one in either."""
    differences = [
        np.abs(found[label] - exact).max() / np.abs(exact).max()
        for label, exact in expected.items()
    ]
    return float(np.max(differences))
