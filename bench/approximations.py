"""How far off are maps from a sample of a lesion's voxels, or from groups of voxels, and how fast?

`voxels_per_lesion` takes a stratified sample of each lesion; `group_size` sums that many voxels'
logits before the maximum is taken, as published scripts do.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

from bench.case import dense_maps, make_case, make_field
from bench.options import base_job, job_settings, timed
from bench.patient import patient_case
from bench.record import Result, Row

_SAMPLED, _GROUPED = (8, 32, 96), (8, 32, 512)
_SIZES = (300, 93, 24)  # voxels of lesions, as near as there are


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the benchmark's options."""
    parser.add_argument("--patient", default="07")


def run(options: argparse.Namespace) -> Result:
    """Measures."""
    job = base_job(options)
    if options.toy:
        case, name = make_case(job), "random images"
        settings: list[tuple[str, int]] = [("voxels_per_lesion", 2), ("group_size", 2)]
    else:
        case, name = patient_case(job, options.shared, options.patient, _SIZES)
        settings = [("voxels_per_lesion", k) for k in _SAMPLED]
        settings += [("group_size", g) for g in _GROUPED]
    field = make_field(case.model, "whole", job.roi)
    dense_maps(field, case)
    exact, seconds = timed(lambda: dense_maps(field, case))
    sizes = {label: len(voxels) for label, voxels in case.lesions.items()}
    rows = _rows("exact", None, exact, exact, sizes, seconds)
    for option, value in settings:
        chosen: dict[str, Any] = {option: value}
        dense_maps(field, case, **chosen)
        maps, seconds = timed(lambda chosen=chosen: dense_maps(field, case, **chosen))  # type: ignore[misc]
        rows += _rows(option, value, maps, exact, sizes, seconds)
    notes = [
        f"lesions of {name}; {len(case.noise)} noise samples; the whole-volume field.",
        "map error: relative L2 from the exact map; peak error: of its largest magnitude, relative "
        "and with its sign; seconds: of all these lesions together.",
    ]
    return Result("approximations", job_settings(job) | {"patient": name}, rows, notes)


def _rows(
    option: str,
    value: int | None,
    maps: dict[int, np.ndarray],
    exact: dict[int, np.ndarray],
    sizes: dict[int, int],
    seconds: float,
) -> list[Row]:
    rows = []
    for label, voxels in sizes.items():
        peak = np.abs(exact[label]).max()
        difference = np.linalg.norm(maps[label] - exact[label])
        rows.append(
            {
                "approximation": option if value is None else f"{option} {value}",
                "lesion_voxels": voxels,
                "map_error": float(difference / np.linalg.norm(exact[label])),
                "peak_error": float(np.abs(maps[label]).max() / peak - 1),
                "seconds": seconds,
            }
        )
    return rows
