"""Does a run over many scans take more and more memory?"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import psutil

from bench.case import CHANNELS, TOY, make_model
from bench.cohort import cohort_job, repeated, synthetic_entries
from bench.growth import SETTLING, distinct_shapes, growth_row
from bench.options import job_settings
from bench.record import Result
from jaxsal.cohort.job import CohortJob
from jaxsal.cohort.run import run_cohort
from jaxsal.inputs.entries import Entry

_SHAPES = 8  # of the mix


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the benchmark's options."""
    parser.add_argument("--scans", type=int, default=200, help="default: %(default)s")


def run(options: argparse.Namespace) -> Result:
    """Measures."""
    count, job = (10, TOY) if options.toy else (options.scans, TOY)
    cohort = cohort_job(make_model(job), job)
    few, own = (2, 3) if options.toy else (_SHAPES, max(count // 2, 3))
    cases = {
        "of one shape": ([job.shape], count),
        f"of {few} shapes in turn": (distinct_shapes(job.shape, few), count),
        "each of its own shape": (distinct_shapes(job.shape, own), own),
    }
    rows = []
    for name, (shapes, scans) in cases.items():
        with tempfile.TemporaryDirectory() as folder:
            entries = synthetic_entries(Path(folder, "scans"), shapes, job.lesions)
            resident = _resident(cohort, repeated(entries, scans), Path(folder, "out"))
        rows.append({"scans": len(resident), "which": name, **growth_row(resident)})
    notes = [
        "resident memory of the process after each scan; growth: slope of a line through it, after "
        f"the first {SETTLING:.0%} of the scans. The rows follow one another in one process.",
        "programs compiled for a shape stay in memory until there are those of 32; then all are "
        "forgotten.",
    ]
    return Result("cohort_memory", job_settings(job) | {"channels": CHANNELS}, rows, notes)


def _resident(job: CohortJob, entries: Sequence[Entry], out: Path) -> list[int]:
    """Bytes of this process after each scan."""
    process, found = psutil.Process(), []
    for result in run_cohort(
        job.model, entries, out, prediction=job.prediction, settings=job.settings
    ):
        assert result.status == "finished", result.reason
        found.append(process.memory_info().rss)
    return found
