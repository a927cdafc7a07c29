"""What does a run over a cohort cost beside the engine's own time, and is the device kept busy?

The whole run, from files to results in a folder, against prediction and maps of the same scans
alone, their images in memory; alternating in one process, after a run of each that compiles.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median

from bench.case import TOY, Job, make_model
from bench.cohort import SMALL, cohort_job, demo_model, phantom_entries, synthetic_entries
from bench.options import job_settings
from bench.record import Result, Row
from jaxsal.cohort.job import CohortJob
from jaxsal.cohort.run import run_cohort
from jaxsal.inputs.entries import Entry
from jaxsal.inputs.images import LoadedScan, load_scan
from jaxsal.scan.explanations import to_explain
from jaxsal.scan.portions import maps_of
from jaxsal.scan.prediction import find_lesions

_NETWORKS = ("toy", "demo")
_PHANTOM, _WINDOW = (56, 64, 56), (48, 48, 48)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the benchmark's options."""
    parser.add_argument("--scans", type=int, default=4, help="default: %(default)s")
    parser.add_argument(
        "--networks", nargs="+", choices=_NETWORKS, default=_NETWORKS, help="default: both"
    )
    parser.add_argument("--rounds", type=int, default=3, help="default: %(default)s")


def run(options: argparse.Namespace) -> Result:
    """Measures."""
    job, rounds = (TOY, 1) if options.toy else (SMALL, options.rounds)
    count = 2 if options.toy else options.scans
    with tempfile.TemporaryDirectory() as folder:
        scans = Path(folder)
        rows = []
        if "toy" in options.networks:
            entries = synthetic_entries(scans, [job.shape] * count, job.lesions)
            rows.append(_row("toy", cohort_job(make_model(job), job), entries, rounds))
        if "demo" in options.networks and not options.toy:
            demo = replace(job, roi=_WINDOW)
            entries = phantom_entries(scans, options.scans, _PHANTOM, 2)
            rows.append(_row("demo", cohort_job(demo_model(), demo), entries, rounds))
    notes = [
        "engine: prediction and maps alone, of images in memory; run: from files to a folder of "
        "results, tables included. Medians of the rounds; ratio: that of their ratios.",
        "processor seconds are those of all of the process's threads, which other programs on the "
        "machine do not affect much.",
        "busy share: of the run's time, in which its only lane computed.",
        f"toy: random weights, synthetic scans of {_by(job.shape)} voxels; demo: its network on "
        f"phantoms of {_by(_PHANTOM)} voxels; label maps, {job.samples} noise samples.",
    ]
    return Result("cohort_overhead", _settings(job, count, rounds), rows, notes)


def _settings(job: Job, count: int, rounds: int) -> Row:
    return job_settings(job) | {"scans": count, "rounds": rounds}


def _row(name: str, job: CohortJob, entries: Sequence[Entry], rounds: int) -> Row:
    model = job.model
    loaded = [load_scan(e.scan, model.channels, model.preprocessing) for e in entries]
    shares: list[float] = []
    engine = _Timed(lambda: _engine_alone(job, loaded))
    whole = _Timed(lambda: shares.append(_whole_run(job, entries)))
    for number in range(rounds + 1):
        for timed in (engine, whole):
            timed()
            if number == 0:  # the one that compiles
                timed.forget()
    return {
        "network": name,
        "scans": len(entries),
        "engine_s": median(engine.seconds),
        "run_s": median(whole.seconds),
        "ratio": _ratio(whole.seconds, engine.seconds),
        "engine_processor_s": median(engine.processor),
        "run_processor_s": median(whole.processor),
        "processor_ratio": _ratio(whole.processor, engine.processor),
        "busy_share": median(shares[1:]),
    }


class _Timed:
    """Calls something and keeps the seconds that it takes, of the clock and of the processor."""

    def __init__(self, compute: Callable[[], None]) -> None:
        self._compute = compute
        self.forget()

    def forget(self) -> None:
        self.seconds: list[float] = []
        self.processor: list[float] = []

    def __call__(self) -> None:
        began, processor = time.perf_counter(), time.process_time()
        self._compute()
        self.seconds.append(time.perf_counter() - began)
        self.processor.append(time.process_time() - processor)


def _engine_alone(job: CohortJob, scans: Sequence[LoadedScan]) -> None:
    (method,) = job.methods
    for scan in scans:
        prediction = find_lesions(job.model, scan, job.prediction)
        wanted = to_explain(prediction, method)
        for _ in maps_of(job.model, prediction, wanted, job.prediction, method, None):
            pass


def _whole_run(job: CohortJob, entries: Sequence[Entry]) -> float:
    """The share of the time in which the device was busy."""
    with tempfile.TemporaryDirectory() as folder:
        run = run_cohort(
            job.model, entries, folder, prediction=job.prediction, settings=job.settings
        )
        for result in run:
            assert result.status == "finished", result.reason
        assert run.busy_share is not None
        return run.busy_share


def _ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    return median(a / b for a, b in zip(ours, theirs, strict=True))


def _by(shape: Sequence[int]) -> str:
    return " × ".join(map(str, shape))
