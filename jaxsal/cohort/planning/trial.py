"""A trial: one scan of a cohort read, predicted, explained in part and written, all of it timed."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from jaxsal.cohort.columns import scan_rows, with_seconds
from jaxsal.cohort.job import CohortJob
from jaxsal.cohort.planning.attempt import Attempt, Explained, settled
from jaxsal.cohort.planning.counting import Sizes, component_sizes
from jaxsal.cohort.storage.names import Names
from jaxsal.errors import InputError
from jaxsal.inputs.entries import Entry
from jaxsal.inputs.loading import load_scan, warn_of
from jaxsal.lesions import Instance, given
from jaxsal.scan.calibration import LESION_VOXELS, synthetic_scan
from jaxsal.scan.explanations import to_explain
from jaxsal.scan.notes import notes_of
from jaxsal.scan.prediction import Prediction, find_lesions
from jaxsal.store.records import stamps
from jaxsal.tables import Row, write_table
from jaxsal.types import Triple
from jaxsal.volumes import write_volume

_PARQUET_BYTES = 8  # of a value


@dataclass(frozen=True)
class Trial:
    """What came of a trial.

    Attributes:
        shape: the scan's grid (X, Y, Z).
        found: its lesions to explain.
        beside: those of its reference mask.
        reading: seconds that its files took.
        prediction: seconds that finding its lesions took.
        compiling: seconds that compiling took, and is not in any other.
        methods: what each method took.
        written: bytes of its other files by output level.
        writing: seconds that these took.
        row: bytes of a lesion in records and tables, files' checksums included.
    """

    shape: Triple
    found: Sizes
    beside: Sizes
    reading: float
    prediction: float
    compiling: float
    methods: tuple[Explained, ...]
    written: Mapping[str, float]
    writing: float
    row: float


def try_scan(
    job: CohortJob, entry: Entry, least_seconds: float, most_voxels: int | None = None
) -> Trial:
    """Puts a scan through what a run does with it, but of each method only a part.

    Args:
        job: what the run does; it computes on the default devices.
        entry: the scan.
        least_seconds: how long the part of a method is to take at least, if there is as much.
        most_voxels: how many voxels to explain at once, about; None: as many as a run does.

    Raises:
        InputError: the scan or a setting cannot be worked with.
    """
    began = time.perf_counter()
    stamps(entry.scan, job.model.channels)
    loaded = load_scan(entry.scan, job.model)
    reading = time.perf_counter() - began
    prediction, seconds, compiling = settled(
        lambda: find_lesions(job.model, loaded, job.prediction)
    )
    warn_of(notes_of(job.model, prediction))
    beside: Sizes = ()
    if loaded.reference is not None:
        least = job.prediction.minimum_volume
        beside = component_sizes(loaded.reference, loaded.grid.voxel_volume, least)
    wanted = to_explain(prediction, job.methods[0])
    found = tuple(i.voxels for i in prediction.instances if i.label in wanted.maps)
    if not found:
        prediction = with_synthetic_lesions(prediction)
        wanted = to_explain(prediction, job.methods[0])
    methods, rows = [], []
    for index in range(len(job.methods)):
        attempt = Attempt(job, prediction, wanted, index, most_voxels)
        methods.append(attempt.measured(least_seconds))
        rows.append(attempt.row)
        compiling += attempt.compiling
    written, writing = _others(job, prediction)
    return Trial(
        loaded.grid.shape,
        found,
        beside,
        reading,
        seconds,
        compiling,
        tuple(methods),
        written,
        writing,
        _row_bytes(job, entry, prediction.instances, rows),
    )


def with_synthetic_lesions(prediction: Prediction) -> Prediction:
    """The scan with lesions where there are none, for something to measure."""
    grid = prediction.scan.grid
    for sizes in ((LESION_VOXELS,) * 2, (1,)):
        try:
            _, labels = synthetic_scan(grid.shape, 1, sizes)
        except InputError:  # no room
            continue
        return replace(prediction, labels=labels, instances=given(labels, grid))
    raise InputError(f"a scan of {grid.shape} voxels is too small to be explained")


def _others(job: CohortJob, prediction: Prediction) -> tuple[dict[str, float], float]:
    """Bytes of a scan's files that are no maps, by level; seconds that they take."""
    grid = prediction.scan.grid
    with tempfile.TemporaryDirectory() as folder:
        labels, probability = Path(folder, "labels.nii.gz"), Path(folder, "probability.nii.gz")
        began = time.perf_counter()
        write_volume(labels, prediction.labels, grid)
        write_volume(probability, prediction.probability, grid)
        seconds = 2 * (time.perf_counter() - began)  # once to go on with, once to stay
        table = float(labels.stat().st_size)
        maps = table + probability.stat().st_size
    return {"table": table, "cropped": maps, "full": maps}, seconds


def _row_bytes(
    job: CohortJob, entry: Entry, instances: Sequence[Instance], rows: Sequence[Row]
) -> float:
    """What a lesion takes in its scan's record and table, and in the tables over the cohort."""
    label, voxels = instances[0].label, {instance.label: instance.voxels for instance in instances}
    merged = {key: value for row in rows for key, value in row.items()}
    (row,) = scan_rows(entry, instances[:1], [with_seconds({label: merged}, voxels, 1.0)])
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder, "lesions.tsv")
        write_table(table, list(row), [row])
        line = len(table.read_bytes().splitlines()[1]) + 1
    names = [Names(entry.stem).map(label, file) for shown in job.shown for file in shown.files]
    if job.settings.output == "table":
        names = []
    files = {name: {"bytes": 10**5, "sha256": 64 * "0"} for name in names}
    record = len(json.dumps({"rows": [row], "files": files}, indent=1))
    return record + 2 * line + _PARQUET_BYTES * len(row)
