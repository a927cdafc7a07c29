"""How long does a run take to find that all is done, with thousands of lesions recorded?"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench.case import TOY, make_model
from bench.cohort import RECORDED, cohort_job, record_all, to_be_recorded
from bench.options import job_settings, timed
from bench.record import Result, Row
from jaxsal.cohort.job import CohortJob
from jaxsal.cohort.run import run_cohort
from jaxsal.cohort.storage.folder import CohortFolder
from jaxsal.inputs.entries import Entry


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the benchmark's options."""
    parser.add_argument("--scans", type=int, default=200, help="default: %(default)s")


def run(options: argparse.Namespace) -> Result:
    """Measures."""
    count = 3 if options.toy else options.scans
    job = cohort_job(make_model(TOY), TOY)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "out")
        entries = to_be_recorded(Path(folder), count)
        _, empty_s = timed(lambda: _again(job, [], out))
        _, recording_s = timed(lambda: record_all(job, entries, CohortFolder(out)))
        found, resume_s = timed(lambda: _again(job, entries, out))
        records, reading_s = timed(lambda: list(CohortFolder(out).records()))
        row: Row = {
            "scans": found,
            "lesions": sum(len(record.rows) for record in records),
            "files": sum(len(record.files) for record in records),
            "resume_s": resume_s,
            "reading_records_s": reading_s,
            "empty_run_s": empty_s,
            "ms_per_scan": 1000 * (resume_s - empty_s) / count,
            "recording_s": recording_s,
        }
    notes = [
        "resume: a run that finds all scans done, each file of results and each input looked at, "
        "and writes the tables; empty run: the same of no scan.",
        "reading records: all of them, as status and report do; recording: making them, for this "
        "benchmark, with small files in place of maps.",
    ]
    return Result("cohort_resume", job_settings(TOY) | {"lesions_per_scan": RECORDED}, [row], notes)


def _again(job: CohortJob, entries: Sequence[Entry], out: Path) -> int:
    """How many scans the run finds done; all are."""
    run = run_cohort(job.model, entries, out, prediction=job.prediction, settings=job.settings)
    results = list(run)
    assert not any(result.is_new for result in results), run.notes
    return len(results)
