"""Does a gradient's cost, and memory, depend on the lesions' number and size, or the samples?

A process per point, so that each has a peak memory of its own; all under one memory budget.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

from bench.case import Job
from bench.options import base_job, job_settings
from bench.record import Result, Row
from bench.worker import cache_environment, measure

_LESION = 24
_POINTS = {"lesions": (1, 2, 4), "voxels_per_lesion": (8, 24, 96), "samples": (1, 2, 4)}
_TOY_POINTS = {"lesions": (1, 2), "voxels_per_lesion": (2, 4), "samples": (1, 2)}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the benchmark's options."""
    parser.add_argument("--field", choices=("whole", "sliding"), default="whole")
    parser.add_argument("--memory", type=float, default=4.0, metavar="GiB", help="default: 4")


def run(options: argparse.Namespace) -> Result:
    """Measures."""
    base = base_job(options, field=options.field)
    with tempfile.TemporaryDirectory() as cache:
        rows = [
            _row(varied, value, _job(base, varied, value, options.toy), options.memory, Path(cache))
            for varied, values in (_TOY_POINTS if options.toy else _POINTS).items()
            for value in values
        ]
    settings = job_settings(base) | {"memory_gib": options.memory}
    notes = ["peak memory: of the device where it says, else of the whole process (RSS)."]
    return Result("scaling", settings, rows, notes)


def _job(base: Job, varied: str, value: int, toy: bool) -> Job:
    lesion = 2 if toy else _LESION
    if varied == "lesions":
        return replace(base, lesions=(lesion,) * value, samples=1)
    if varied == "voxels_per_lesion":
        return replace(base, lesions=(value,), samples=1)
    return replace(base, lesions=(lesion,), samples=value)


def _row(varied: str, value: int, job: Job, memory: float, cache: Path) -> Row:
    environment = cache_environment(cache)
    found = measure(job, memory=int(memory * 2**30), environment=environment)
    return {
        "varied": varied,
        "value": value,
        "gradients": found["gradients"],
        "seconds": found["seconds"],
        "ms_per_gradient": 1000 * found["seconds"] / found["gradients"],
        "peak_memory_gib": found["peak_bytes"] / 2**30,
    }
