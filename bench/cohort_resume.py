"""How long does a run take to find that all is done, with thousands of lesions recorded?"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bench.case import TOY, make_model
from bench.cohort import cohort_job, repeated, synthetic_entries
from bench.options import job_settings, timed
from bench.record import Result, Row
from jaxsal.cohort.columns import lesion_columns
from jaxsal.cohort.entries import Entry
from jaxsal.cohort.job import Job as CohortJob
from jaxsal.cohort.run import run_cohort
from jaxsal.cohort.storage.folder import CohortFolder
from jaxsal.cohort.storage.names import Names
from jaxsal.cohort.storage.records import ScanRecord, stamps
from jaxsal.cohort.storage.work import ScanWork

_LESIONS = 50  # of a scan


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the benchmark's options."""
    parser.add_argument("--scans", type=int, default=200, help="default: %(default)s")


def run(options: argparse.Namespace) -> Result:
    """Measures."""
    count = 3 if options.toy else options.scans
    job = cohort_job(make_model(TOY), TOY)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "out")
        (pattern,) = synthetic_entries(Path(folder, "pattern"), [TOY.shape], TOY.lesions)
        entries = [_copied(entry, Path(folder)) for entry in repeated([pattern], count)]
        _, empty_s = timed(lambda: _again(job, [], out))
        _, recording_s = timed(lambda: _record_all(job, entries, CohortFolder(out)))
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
    return Result("cohort_resume", job_settings(TOY) | {"lesions_per_scan": _LESIONS}, [row], notes)


def _copied(entry: Entry, folder: Path) -> Entry:
    """The same scan with files of its own."""
    own = folder / "scans" / entry.stem
    shutil.copytree(entry.scan.images[0].parent, own)
    images = tuple(own / path.name for path in entry.scan.images)
    assert entry.scan.instances is not None
    scan = type(entry.scan)(images, instances=own / entry.scan.instances.name)
    return Entry(entry.id, scan, entry.entities)


def _again(job: CohortJob, entries: Sequence[Entry], out: Path) -> int:
    """How many scans the run finds done; all are."""
    run = run_cohort(job.model, entries, out, prediction=job.prediction, settings=job.settings)
    results = list(run)
    assert not any(result.is_new for result in results), run.notes
    return len(results)


def _record_all(job: CohortJob, entries: Sequence[Entry], folder: CohortFolder) -> None:
    """Makes every scan look done: a record, and a small file for each result."""
    numbers = np.random.default_rng(0)
    keys = [column.key for column in lesion_columns(job.shown)]
    for entry in entries:
        work, names = ScanWork(folder, entry.stem), Names(entry.stem)
        inputs = stamps(entry.scan, job.model.channels)
        work.begin(inputs)
        (shown,) = job.shown
        maps = [names.map(label, file) for label in range(_LESIONS) for file in shown.files]
        written = [names.labels, names.table, names.probability, *map(names.sidecar, shown.files)]
        for name in (*written, *maps):
            work.path(name).write_bytes(numbers.bytes(200))
        values = numbers.standard_normal((_LESIONS, len(keys))).tolist()
        scan = {"scan": entry.id, "subject": entry.entities["subject"], "session": ""}
        whole = {"kind": "given", "voxels": 24, "samples": 10}
        rows = [
            dict(zip(keys, line, strict=True)) | scan | whole | {"label": label}
            for label, line in enumerate(values, 1)
        ]
        files = work.files([*written, *maps])
        work.publish(
            ScanRecord(
                entry.id, entry.stem, "finished", inputs, rows=rows, files=files, ran=job.ran
            )
        )
