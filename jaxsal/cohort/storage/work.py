"""The unfinished results of a scan: kept from portion to portion, and made to appear at once.

They are written into a hidden folder. When all are there, a record with their checksums is written
beside them, they are moved to their places, and the record follows. A run that is killed meanwhile
is completed by the next one, from the record.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Collection, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from jaxsal.cohort.storage.folder import CohortFolder
from jaxsal.cohort.storage.names import is_result_of
from jaxsal.inputs.images import LoadedScan
from jaxsal.lesions import instances_of
from jaxsal.scan.lesion_table import UNCERTAINTY_COLUMNS
from jaxsal.scan.prediction import Prediction
from jaxsal.scan.uncertainty import Uncertainty
from jaxsal.store.file_list import FILES, Files, keep_portion, kept_portion, list_files
from jaxsal.store.files import read_json, sync_folders, write_json
from jaxsal.store.inside import require_inside
from jaxsal.store.records import Inputs, ScanRecord
from jaxsal.tables import Row
from jaxsal.volumes import read_labels, read_mask, read_volume, write_volume


class ScanWork:
    """The unfinished results of one scan.

    Args:
        folder: the cohort's.
        stem: the scan's.
    """

    def __init__(self, folder: CohortFolder, stem: str) -> None:
        self._folder, self._stem = folder, stem
        self._path = folder.work_path(stem)

    def begin(self, inputs: Inputs) -> None:
        """Keeps what an earlier run left if it was of the same files; else begins anew."""
        now = json.loads(json.dumps({role: s and s.sha256 for role, s in inputs.items()}))
        if self._path.exists() and read_json(self._path / "inputs.json") != now:
            shutil.rmtree(self._path)  # what stayed would be taken for the new files'
        self._path.mkdir(parents=True, exist_ok=True)
        write_json(self._path / "inputs.json", now)

    def path(self, name: str) -> Path:
        """Where to write a result, given its final name, for now."""
        path = self._path / FILES / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def files(self, names: list[str]) -> Files:
        """Size and checksum of results that were written."""
        return list_files(self._path / FILES, names)

    def save_lesions(self, prediction: Prediction) -> None:
        """Saves the lesions that were found, to go on with."""
        grid = prediction.grid
        write_volume(self._path / "probability.nii.gz", prediction.probability, grid)
        write_volume(self._path / "labels.nii.gz", prediction.labels.astype(np.int32), grid)
        write_volume(self._path / "segmented.nii.gz", prediction.segmented.astype(np.uint8), grid)
        kinds = {instance.label: instance.kind for instance in prediction.instances}
        kept: dict[str, Any] = {"threshold": prediction.threshold, "kinds": kinds}
        if prediction.uncertainty is not None:
            write_volume(self._path / "entropy.nii.gz", prediction.uncertainty.entropy, grid)
            write_volume(self._path / "variance.nii.gz", prediction.uncertainty.variance, grid)
            kept["uncertainty"] = prediction.uncertainty.rows
        write_json(self._path / "lesions.json", kept)

    def lesions(self, loaded: LoadedScan) -> Prediction | None:
        """The lesions that an earlier run found, and how uncertain they are if it found that."""
        kept = read_json(self._path / "lesions.json")
        try:
            kinds = {int(label): kind for label, kind in kept["kinds"].items()}
            stored = read_volume(self._path / "probability.nii.gz").data
            grid = loaded.grid.scan
            probability = grid.from_file(stored)
            labels = read_labels(self._path / "labels.nii.gz", grid)
            segmented = read_mask(self._path / "segmented.nii.gz", grid)
            threshold = kept["threshold"]
            if not isinstance(threshold, float | int | None):
                return None
            instances = [
                replace(instance, kind=kinds[instance.label])
                for instance in instances_of(labels, grid)
            ]
            found = Prediction(loaded, probability, threshold, segmented, labels, instances)
            return self._with_uncertainty(found, kept)
        except (ValueError, KeyError, TypeError, AttributeError):
            return None

    def _with_uncertainty(self, found: Prediction, kept: Mapping[str, Any]) -> Prediction:
        """The lesions with how uncertain the network is of them, where that was kept.

        Raises:
            ValueError, KeyError, TypeError, AttributeError: it is damaged.
        """
        if "uncertainty" not in kept:
            return found
        grid = found.grid
        maps = (read_volume(self._path / f"{kind}.nii.gz").data for kind in ("entropy", "variance"))
        entropy, variance = map(grid.from_file, maps)
        rows = {
            each.label: {key: float(row[key]) for key in UNCERTAINTY_COLUMNS}
            for each in found.instances
            for row in [kept["uncertainty"][str(each.label)]]
        }
        return replace(found, uncertainty=Uncertainty(entropy, variance, rows))

    def save_portion(self, number: int, rows: Mapping[int, Row], files: Files) -> None:
        """Records that a portion is done: its rows by label, and its files."""
        keep_portion(self._path, number, rows, files)

    def portion(self, number: int, labels: Collection[int]) -> tuple[dict[int, Row], Files] | None:
        """The rows and files of a portion that is done, if it is of the lesions of these labels."""
        kept = kept_portion(self._path, number, partial(is_result_of, self._stem))
        try:
            rows = {int(label): row for label, row in kept[0].items()} if kept else {}
            require_inside(self._folder.root, kept[1] if kept else ())
            timed = all(isinstance(row["seconds"], float | int) for row in rows.values())
        except (ValueError, KeyError, TypeError, AttributeError):
            return None
        return (rows, kept[1]) if kept and timed and set(rows) == set(labels) else None

    def publish(self, record: ScanRecord) -> None:
        """Makes the results appear.

        Raises:
            InputError: they would go elsewhere than into the cohort's folder, through a link.
        """
        require_inside(self._folder.root, record.files)
        record.write(self._path / "record.json")
        self.settle()

    def settle(self) -> None:
        """Completes what a killed run began to publish, if one did."""
        path = self._path / "record.json"
        if not path.exists():
            return
        record = self._folder.read_record(path, self._stem)
        if record is None:
            if path.exists():  # damaged: nothing that lies beside it is to be trusted
                self.discard()
            return
        for name in record.files:
            staged, final = self._path / FILES / name, self._folder.root / name
            if not staged.exists():
                continue  # moved before
            final.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.replace(staged, final)
            except FileNotFoundError:
                if staged.exists():
                    raise
                # Another process, such as a worker of the killed run, completes the same just now.
        if record.missing(self._folder.root):  # lost in a power cut, while they were moved
            self.discard()
            return
        sync_folders(self._folder.root, record.files)  # before the record says that they are there
        record.write(self._folder.record_path(self._stem))
        self.discard()

    def discard(self) -> None:
        """Removes them."""
        shutil.rmtree(self._path, ignore_errors=True)
