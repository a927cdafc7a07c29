"""What does a voxel's gradient cost, compared with PyTorch, torch.func and Captum?

The same network, scan, noise and process for all. Compilation and the first call are excluded.
Peers whose whole job would take longer than ``--limit`` do a part of it, which is scaled up.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from bench.case import Case, as_part_of_a_scan, dense_maps, make_case, make_field
from bench.ceilings import SHARES_NOTE, measure_ceilings
from bench.options import base_job, job_settings, timed
from bench.record import Result, Row
from bench.visits import work_of

_PART = 2  # voxels of each lesion, where a part has to do

Maps = dict[int, np.ndarray]
Peer = Callable[[Case], tuple[Maps, Any]]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the benchmark's options."""
    parser.add_argument("--rounds", type=int, default=2, help="the best of them counts")
    parser.add_argument(
        "--limit", type=float, default=120.0, help="seconds that a peer may take per round"
    )


def run(options: argparse.Namespace) -> Result:
    """Measures."""
    from bench.pytorch import network as pytorch

    job = base_job(options)
    case = make_case(job)
    pytorch.prepare(job.precision)
    network = pytorch.torch_network(case.model)
    rounds = 1 if options.toy else options.rounds
    with as_part_of_a_scan():
        rows = [
            _jaxsal_row(case, replace(job, field=field), rounds) for field in ("whole", "sliding")
        ]
    field = make_field(case.model, "whole", job.roi)
    for name, peer in _peers(network, case):
        rows.append(_peer_row(name, peer, case, field, rounds, options.limit))
    _add_ratios(rows)
    ceilings = measure_ceilings(job.precision, toy=options.toy)
    fields = ["whole", "sliding", *["whole"] * (len(rows) - 2)]
    for row, name in zip(rows, fields, strict=True):
        work = work_of(replace(job, field=name), case.model)
        row |= ceilings.shares(work, row["ms_per_gradient"] / 1000)
    settings = job_settings(job) | {"rounds": rounds, "limit_s": options.limit} | ceilings.settings
    notes = [
        f"PyTorch ran on {pytorch.describe()}.",
        "difference: largest difference from jaxsal's map of the same voxels, relative to the "
        "map's peak.",
        "peers compute the whole-volume field; rows of a part are scaled to the whole job, forward "
        "passes and gradients apart.",
        SHARES_NOTE + " Of a gradient through the cells that it depends on, whatever a peer does.",
        ceilings.note,
    ]
    return Result("peers", settings, rows, notes)


def _peers(network: Any, case: Case) -> list[tuple[str, Peer]]:
    """Name and function of each; of the plain windows, the fastest variant."""
    from bench.pytorch import captum_loop, functional, reference_loop, windows

    small = case.reduced(_PART, len(case.noise))
    trials = {}
    for variant in windows.variants():
        windows.run(network, small, variant)
        trials[variant] = windows.run(network, small, variant)[1].gradient_seconds
    best = min(trials, key=lambda variant: trials[variant])
    gradients = functional.gradients_of(network)
    return [
        ("reference's loop", partial(reference_loop.run, network)),
        (
            f"PyTorch windows ({best.name}; best of {len(trials)})",
            lambda case: windows.run(network, case, best),
        ),
        ("torch.func vmap(vjp) windows", partial(functional.run, gradients)),
        ("Captum Saliency + NoiseTunnel windows", partial(captum_loop.run, network)),
    ]


def _jaxsal_row(case: Case, job: Any, rounds: int) -> Row:
    field = make_field(case.model, job.field, job.roi)
    dense_maps(field, case)
    seconds = min(timed(lambda: dense_maps(field, case))[1] for _ in range(rounds))
    return _row(f"jaxsal {job.field}", case.gradients, 1.0, seconds / case.gradients, None)


def _peer_row(name: str, peer: Peer, case: Case, field: Any, rounds: int, limit: float) -> Row:
    part = case.reduced(_PART, 1)
    peer(case.reduced(1, 1))
    maps, clock = peer(part)
    share = part.gradients / case.gradients
    if clock.seconds / share <= limit:
        share, part = 1.0, case
        runs = [peer(case) for _ in range(rounds)]
        maps, clock = min(runs, key=lambda outcome: outcome[1].seconds)
    forwards = _forwards(clock, case, part)
    seconds = clock.gradient_seconds / clock.gradients + forwards / case.gradients
    expected = dense_maps(field, part)
    difference = max(
        float(np.abs(maps[label] - expected[label]).max() / np.abs(expected[label]).max())
        for label in expected
    )
    return _row(name, clock.gradients, share, seconds, difference)


def _forwards(clock: Any, case: Case, part: Case) -> float:
    """Seconds of all forward passes of the case, of which those of a part were measured.

    A part has the first voxels of every lesion; its windows are counted as if they were all.
    """
    return float(clock.forward_seconds * len(case.noise) / len(part.noise))


def _row(name: str, measured: int, share: float, seconds: float, difference: float | None) -> Row:
    return {
        "peer": name,
        "gradients_measured": measured,
        "share_of_the_job": share,
        "ms_per_gradient": 1000 * seconds,
        "difference": difference,
    }


def _add_ratios(rows: list[Row]) -> None:
    """How many times as long as jaxsal each takes, for both of its fields."""
    for index, field in enumerate(("whole", "sliding")):
        for row in rows:
            row[f"times_jaxsal_{field}"] = row["ms_per_gradient"] / rows[index]["ms_per_gradient"]
