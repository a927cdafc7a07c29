"""Applies a detector to a cohort's results, which are only read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from jaxsal import __version__
from jaxsal.cohort.results import CohortResults
from jaxsal.detector.detector import read_detector
from jaxsal.detector.features import LESION_COLUMNS, all_features
from jaxsal.errors import InputError
from jaxsal.progress import OnPart
from jaxsal.store.bids_dataset import name_of
from jaxsal.store.files import file_checksum, write_json
from jaxsal.store.output_folder import OutputFolder
from jaxsal.tables import Row, write_table
from jaxsal.volumes import write_volume

if TYPE_CHECKING:
    from jaxsal.detector.detector import Detector

COLUMNS = {
    **LESION_COLUMNS,
    "p_true": "probability of being a true lesion, by the detector; empty for FN, which the "
    "network did not find",
    "kept": "1: in the mask, p_true reaches the detector's threshold; 0: not",
}
MASK = "label-L_desc-pruned_mask.nii.gz"
"""How the names of masks end."""


@dataclass(frozen=True)
class Applied:
    """What became of a cohort's lesions.

    Attributes:
        rows: of the table.
        scans: number of masks.
        failed: why scans of the cohort have no results, by their ids.
    """

    rows: list[Row]
    scans: int
    failed: Mapping[str, str]


def apply_detector(
    path: Path, root: Path, out: Path, on_scan: OnPart = lambda done, scans: None
) -> Applied:
    """Writes a table of all lesions, and a mask per scan without what the detector holds for false.

    What the network segmented but was too small for a lesion is in no mask, nor is what has no map.

    Args:
        path: of the detector.
        root: the folder of a run over a cohort.
        out: a new folder: lesions.tsv, lesions.json, run.json and sub-*/**/anat/*_mask.nii.gz.
        on_scan: called as scans are judged.

    Raises:
        InputError: the detector is none or was fitted on other methods, settings or channels; the
            cohort's folder holds no results, or its maps were not kept; or the folder for the
            results exists.
        OutputError: a file cannot be written.
    """
    if out.exists():
        raise InputError(f"{out} exists: give a new folder for the results (--out)")
    detector, results = read_detector(path), CohortResults(root)
    method = detector.method_in(results, path)
    rows: list[Row] = []
    scans = 0
    with OutputFolder(out) as folder:
        for scan, measured in all_features(results, method, on_scan):
            own = list(_judged(detector, measured))
            mask = np.isin(scan.labels, [row["label"] for row in own if row["kept"]])
            write_volume(folder.path(name_of(scan.record.stem, MASK)), mask, scan.grid)
            rows += own
            scans += 1
        write_table(folder.path("lesions.tsv"), list(COLUMNS), rows)
        write_json(folder.path("lesions.json"), COLUMNS)
        facts = {"detector": str(path.absolute()), "detector_sha256": file_checksum(path)}
        about = {"jaxsal": __version__, "command": "detector apply", "cohort": str(root.absolute())}
        folder.commit({**about, **facts, "threshold": detector.threshold})
    return Applied(rows, scans, results.failed)


def _judged(detector: Detector, measured: Sequence[Row]) -> Iterator[Row]:
    """The table's rows of a scan's lesions."""
    for row, probability in zip(measured, detector.probability(measured).tolist(), strict=True):
        about = {name: row[name] for name in LESION_COLUMNS}
        if row["kind"] == "FN":
            yield {**about, "p_true": None, "kept": 0}
        else:
            yield {**about, "p_true": probability, "kept": int(probability >= detector.threshold)}
