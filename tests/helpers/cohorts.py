"""A tiny cohort, runs over it, and what two of its folders must have in common."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from helpers.tiny import CHANNELS, MISSED, ROI, make_scan, save
from pyarrow import parquet

from jaxsal.cohort.run import CohortRun, ScanResult, run_cohort
from jaxsal.inputs.entries import Entry, Scan
from jaxsal.inputs.images import load_scan
from jaxsal.model import Model
from jaxsal.saliency.methods.smoothgrad import SmoothGradSettings
from jaxsal.scan.prediction import find_lesions
from jaxsal.settings import CohortSettings, PredictSettings

SCANS = 4
PREDICTION = PredictSettings(roi=ROI)
# A portion is a lesion or two, so that a scan has several.
SETTINGS = CohortSettings((SmoothGradSettings(samples=2, memory=2**30),), portion=20)
OPTIONS = ["--roi", "16", "--samples", "2", "--portion", "20", "--memory", "1"]


def make_cohort(folder: Path, scans: int = SCANS) -> list[Entry]:
    """Scans in folders whose names have spaces and letters beyond ASCII."""
    entries = []
    for index in range(scans):
        place = folder / f"Größe {index}"
        place.mkdir(parents=True)
        files = make_scan(place, seed=7 + index)
        entries.append(Entry(f"pät {index}", Scan(files.images), {"subject": f"{index:02}"}))
    return entries


def with_references(model: Model, entries: Sequence[Entry], folder: Path) -> list[Entry]:
    """The tiny cohort with masks that hold every other lesion that is found, and one that is not.

    Of four scans six lesions are TP, seven FP and four FN.
    """
    found = []
    for index, entry in enumerate(entries):
        labels = find_lesions(model, load_scan(entry.scan, CHANNELS, None), PREDICTION).labels
        true = (labels > 0) & (labels % 2 == index % 2)
        true[MISSED] |= labels[MISSED] == 0
        path = save(folder / f"true{index}.nii.gz", true.astype(np.uint8))
        found.append(replace(entry, scan=replace(entry.scan, reference=path)))
    return found


def write_manifest(path: Path, entries: Sequence[Entry]) -> Path:
    """The cohort as a table."""
    lines = ["scan\tsubject\tflair\tt1"]
    lines += ["\t".join([e.id, e.entities["subject"], *map(str, e.scan.images)]) for e in entries]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def begin(model: Model, entries: Sequence[Entry], out: Path | None, **options: Any) -> CohortRun:
    """A run of the tiny cohort."""
    options = {"prediction": PREDICTION, "settings": SETTINGS, **options}
    return run_cohort(model, entries, out, **options)


def run(model: Model, entries: Sequence[Entry], out: Path, **options: Any) -> list[ScanResult]:
    """A run to its end."""
    return list(begin(model, entries, out, **options))


def results(folder: Path) -> dict[str, Any]:
    """Every result by name, but for the seconds that computing took; also none may be hidden."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and not name.startswith(".jaxsal/"):
            found[name] = _content(path)
    return found


def _content(path: Path) -> Any:
    if path.suffix == ".tsv":
        rows = list(csv.DictReader(io.StringIO(path.read_text("utf-8")), delimiter="\t"))
        return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]
    if path.suffix == ".parquet":
        return parquet.read_table(path).drop(["seconds"]).to_pydict()
    if path.name == "run.json":
        return json.loads(path.read_bytes())["identity"]
    return path.read_bytes()
