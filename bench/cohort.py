"""Cohorts to measure: synthetic scans as files, with label maps, for a small network."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np

from bench.case import CHANNELS, TOY, Job
from jaxsal.approximated import EXACT
from jaxsal.checkpoints import load_model
from jaxsal.cohort.job import CohortJob
from jaxsal.cohort.machines.order import with_budget
from jaxsal.cohort.run import Local
from jaxsal.cohort.storage.folder import CohortFolder
from jaxsal.cohort.storage.names import Names
from jaxsal.cohort.storage.work import ScanWork
from jaxsal.demo.phantom import make_phantom, write_phantom
from jaxsal.devices import default_devices
from jaxsal.grid import Grid
from jaxsal.inputs.entries import Entry, Scan
from jaxsal.model import Model
from jaxsal.saliency.methods.smoothgrad import SmoothGradSettings
from jaxsal.scan.calibration import synthetic_scan
from jaxsal.settings import CohortSettings, PredictSettings
from jaxsal.store.records import ScanRecord, stamps
from jaxsal.types import Triple
from jaxsal.volumes import write_volume

SMALL = replace(TOY, shape=(40, 48, 40), lesions=(24, 24), roi=(32, 32, 32), samples=10)
RECORDED = 50  # lesions of a scan that is made to look done


def synthetic_entries(
    folder: Path, shapes: Sequence[Triple], lesions: tuple[int, ...]
) -> list[Entry]:
    """A scan of random images for each shape, with lesions of so many voxels."""
    entries = []
    for number, shape in enumerate(shapes):
        image, labels = synthetic_scan(shape, len(CHANNELS), lesions, number)
        own, grid = folder / f"scan{number}", Grid(shape, np.eye(4))
        own.mkdir(parents=True)
        paths = tuple(own / f"{channel}.nii.gz" for channel in CHANNELS)
        for path, values in zip(paths, np.moveaxis(image, -1, 0), strict=True):
            write_volume(path, np.ascontiguousarray(values), grid)
        write_volume(own / "labels.nii.gz", labels, grid)
        entries.append(_entry(number, Scan(paths, instances=own / "labels.nii.gz")))
    return entries


def phantom_entries(folder: Path, count: int, shape: Triple, lesions: int) -> list[Entry]:
    """Synthetic heads with lesions, at 3 mm."""
    entries = []
    for number in range(count):
        own = folder / f"phantom{number}"
        write_phantom(make_phantom(number, shape, spacing=3.0, lesions=lesions), own)
        images = (own / "FLAIR.nii.gz", own / "T1.nii.gz")
        entries.append(_entry(number, Scan(images, instances=own / "lesions.nii.gz")))
    return entries


def repeated(entries: Sequence[Entry], count: int) -> list[Entry]:
    """So many scans whose files are those of the given ones, in turn."""
    return [_entry(number, entries[number % len(entries)].scan) for number in range(count)]


def demo_model() -> Model:
    """The demo's trained network."""
    with as_file(files("jaxsal.demo") / "model") as folder:
        return load_model(folder)


def cohort_job(model: Model, job: Job, output: str = "cropped") -> CohortJob:
    """The signed maximum of every lesion, on the default devices."""
    machine = Local(default_devices(), lambda entry, progress: None)
    settings = CohortSettings((SmoothGradSettings(samples=job.samples),), output=output)
    prediction = PredictSettings(roi=job.roi)
    return CohortJob(model, prediction, with_budget(settings, machine.memory()))


def _copied(entry: Entry, folder: Path) -> Entry:
    """The same scan with files of its own."""
    own = folder / "scans" / entry.stem
    shutil.copytree(entry.scan.images[0].parent, own)
    images = tuple(own / path.name for path in entry.scan.images)
    assert entry.scan.instances is not None
    scan = type(entry.scan)(images, instances=own / entry.scan.instances.name)
    return Entry(entry.id, scan, entry.entities)


def to_be_recorded(folder: Path, count: int) -> list[Entry]:
    """So many small scans, each with files of its own, for `record_all`."""
    (pattern,) = synthetic_entries(folder / "pattern", [TOY.shape], TOY.lesions)
    return [_copied(entry, folder) for entry in repeated([pattern], count)]


def record_all(job: CohortJob, entries: Sequence[Entry], folder: CohortFolder) -> None:
    """Makes every scan look done: a record, and a small file for each result.

    The folder must have been begun by a run.
    """
    numbers = np.random.default_rng(0)
    keys = [column.key for column in job.columns()]
    for entry in entries:
        work, names = ScanWork(folder, entry.stem), Names(entry.stem)
        inputs = stamps(entry.scan, job.model.channels)
        work.begin(inputs)
        (shown,) = job.shown
        maps = [names.map(label, file) for label in range(RECORDED) for file in shown.files]
        written = [names.labels, names.table, names.probability, *map(names.sidecar, shown.files)]
        for name in (*written, *maps):
            work.path(name).write_bytes(numbers.bytes(200))
        values = numbers.standard_normal((RECORDED, len(keys))).tolist()
        scan = {"scan": entry.id, "subject": entry.entities["subject"], "session": ""}
        whole = {"kind": "given", "voxels": 24, "samples": 10, "approximated": EXACT}
        rows = [
            dict(zip(keys, line, strict=True)) | scan | whole | {"label": label}
            for label, line in enumerate(values, 1)
        ]
        files = work.files([*written, *maps])
        work.publish(
            ScanRecord(
                entry.id, entry.stem, "finished", inputs, rows=rows, files=files, ran=dict(job.ran)
            )
        )


def _entry(number: int, scan: Scan) -> Entry:
    return Entry(f"scan-{number}", scan, {"subject": f"{number:05d}"})
