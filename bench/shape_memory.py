"""Does work on ever new shapes of images, or with ever new callables, take more and more memory?"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import psutil

import jaxsal
from bench.case import CHANNELS, TOY, make_model
from bench.cohort import synthetic_entries
from bench.growth import SETTLING, distinct_shapes, growth_row, memory_maps
from bench.options import job_settings
from bench.record import Result, Row
from jaxsal.compilation import live_programs
from jaxsal.evaluation.scans import evaluate
from jaxsal.model import Model
from jaxsal.settings import PredictSettings
from jaxsal.types import Triple


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the benchmark's options."""
    parser.add_argument("--scans", type=int, default=200, help="default: %(default)s")


def run(options: argparse.Namespace) -> Result:
    """Measures."""
    count = 6 if options.toy else options.scans
    model, shapes = make_model(TOY), distinct_shapes(TOY.shape, count)
    with tempfile.TemporaryDirectory() as folder:
        ways = {
            "callables, each its own": _callables(count),
            "fields over images, each of its own shape": _fields(model, shapes),
            "evaluate, scans each of its own shape": _evaluations(model, shapes, Path(folder)),
        }
        rows = [_row(name, work) for name, work in ways.items()]
    notes = [
        "resident memory, mappings and compiled programs of the process after each; growth: slope "
        f"of a line through memory, after the first {SETTLING:.0%}. The rows follow one another in "
        "one process.",
        "fields: sliding windows; of callables the whole volume.",
    ]
    return Result("shape_memory", job_settings(TOY) | {"channels": CHANNELS}, rows, notes)


def _callables(count: int) -> Iterator[None]:
    image = jnp.asarray(np.ones((*TOY.shape, 1), np.float32))
    for number in range(count):
        jaxsal.whole_volume(lambda batch, number=number: batch * number)(image)
        yield


def _fields(model: Model, shapes: list[Triple]) -> Iterator[None]:
    field = jaxsal.sliding_window(model, roi=TOY.roi)
    for shape in shapes:
        field(jnp.asarray(np.ones((*shape, len(CHANNELS)), np.float32)))
        yield


def _evaluations(model: Model, shapes: list[Triple], folder: Path) -> Iterator[None]:
    entries = [
        replace(entry, scan=replace(entry.scan, reference=entry.scan.instances, instances=None))
        for entry in synthetic_entries(folder, shapes, TOY.lesions)
    ]
    for result in evaluate(model, entries, PredictSettings(roi=TOY.roi)):
        assert not result.reason, result.reason
        yield


def _row(name: str, work: Iterator[None]) -> Row:
    process, resident, maps, programs = psutil.Process(), [], [], []
    for _ in work:
        resident.append(process.memory_info().rss)
        maps.append(memory_maps())
        programs.append(live_programs())
    settled = int(SETTLING * len(resident))
    return {
        "scans": len(resident),
        "which": name,
        **growth_row(resident),
        "settled_mappings": maps[settled],
        "end_mappings": maps[-1],
        "most_programs": max(programs),
    }
