"""What do tf32, bfloat16x3 and bfloat16 cost in accuracy, and gain in speed?

Errors are those from PyTorch in float64 on the same weights, image and noise.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import jax
import numpy as np

from bench.case import TARGET, Case, dense_maps, make_case, make_field
from bench.ceilings import SHARES_NOTE, Ceilings, measure_ceilings
from bench.options import base_job, job_settings, timed
from bench.patient import cropped, patient_case
from bench.record import Result, Row
from bench.visits import window_work
from jaxsal.devices import computing_on
from jaxsal.errors import InputError
from jaxsal.settings import PRECISIONS

_WINDOW, _LESION = 96, 24  # voxels


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the benchmark's options."""
    parser.add_argument("--patient", default="07")


def run(options: argparse.Namespace) -> Result:
    """Measures."""
    job = replace(base_job(options), precision="float32")
    if options.toy:
        case, name = make_case(replace(job, lesions=(3,), samples=1)), "random images"
    else:
        case, name = patient_case(job, options.shared, options.patient, (_LESION,))
        case = cropped(case, 1, _WINDOW)
    logits, maps = _exact(case)
    rows: list[Row] = []
    notes = [
        f"one lesion of {len(case.lesions[1])} voxels of {name}, on a window of "
        f"{case.image.shape[0]} voxels, {len(case.noise)} noise samples.",
        "logit error: largest, relative to the largest logit; map error: relative L2; peak error: "
        "of the map's largest magnitude, relative.",
        SHARES_NOTE + " Peaks: of a large matrix product in that precision and of a large copy.",
    ]
    for precision in PRECISIONS:
        try:
            with computing_on(None, precision):
                ceilings = measure_ceilings(precision, toy=options.toy)
                rows.append(_row(case, logits, maps, precision, ceilings))
        except InputError as error:
            notes.append(f"{precision} is left out: {error}")
    for row in rows:
        row["speed_up"] = rows[0]["ms_per_gradient"] / row["ms_per_gradient"]
    return Result("precision", job_settings(job) | {"patient": name}, rows, notes)


def _exact(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """Logits (X, Y, Z) and map (X, Y, Z, C) in float64, by PyTorch."""
    import torch

    from bench.pytorch import windows
    from bench.pytorch.network import frozen, prepare, torch_device, torch_network

    prepare("float32")
    network = torch_network(case.model)
    maps, _ = windows.run(network, case, dtype=torch.float64)
    batch = torch.from_numpy(np.moveaxis(case.image, -1, 0)[None].copy())
    with torch.no_grad():
        double = frozen(network, dtype=torch.float64)
        logits = double(batch.to(torch_device(), torch.float64))[0, TARGET]
    return logits.cpu().numpy(), maps[1]


def _row(
    case: Case, logits: np.ndarray, exact: np.ndarray, precision: str, ceilings: Ceilings
) -> Row:
    model = case.model.with_precision(precision)
    field = make_field(model, "whole", (_WINDOW,) * 3)
    found = np.asarray(field(jax.numpy.asarray(case.image)))[..., TARGET]
    dense_maps(field, case)
    maps, seconds = timed(lambda: dense_maps(field, case))
    peak = np.abs(exact).max()
    return {
        "precision": precision,
        "logit_error": float(np.abs(found - logits).max() / np.abs(logits).max()),
        "map_error": float(np.linalg.norm(maps[1] - exact) / np.linalg.norm(exact)),
        "peak_error": float(abs(np.abs(maps[1]).max() - peak) / peak),
        "ms_per_gradient": 1000 * seconds / case.gradients,
        **ceilings.shares(window_work(case), seconds / case.gradients),
        "peak_gflop_per_s": ceilings.flops / 1e9,
        "peak_gbyte_per_s": ceilings.bytes / 1e9,
    }
