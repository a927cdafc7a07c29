"""The results of a scan are kept in memory, for the calling program."""

from __future__ import annotations

from concurrent.futures import Future
from typing import TYPE_CHECKING

from jaxsal.cohort.columns import map_row, scan_rows, with_seconds
from jaxsal.cohort.parts import Maps, Portion
from jaxsal.cohort.storage.writer import AtOnce
from jaxsal.inputs.entries import Entry
from jaxsal.inputs.loading import LoadedScan
from jaxsal.saliency.maps import Crop
from jaxsal.scan.map_files import in_file
from jaxsal.scan.prediction import Prediction
from jaxsal.store.records import ScanRecord
from jaxsal.store.stamps import Inputs
from jaxsal.tables import Row

if TYPE_CHECKING:
    from jaxsal.cohort.job import CohortJob


class MemoryKeeper:
    """Keeps a scan's results in memory; a `Keeper`.

    Args:
        job: of the run.
        entry: the scan.
        inputs: the scan's files as they are.
    """

    def __init__(self, job: CohortJob, entry: Entry, inputs: Inputs) -> None:
        self._job, self._entry, self._inputs = job, entry, inputs
        self._rows: dict[int, Row] = {}
        self._portions: list[dict[int, Row]] = []
        self._crops: dict[str, dict[int, Crop]] = {method.name: {} for method in job.methods}

    @property
    def maps(self) -> Maps:
        """What was kept."""
        grid = self._prediction.scan.grid
        crops = {
            method: {label: in_file(crop, grid) for label, crop in found.items()}
            for method, found in self._crops.items()
        }
        return Maps(grid.file, grid.to_file(self._prediction.labels), crops)

    def restored(self, loaded: LoadedScan) -> Prediction | None:
        return None

    def keep_prediction(self, prediction: Prediction) -> None:
        self._prediction = prediction

    def has(self, portion: Portion) -> bool:
        return False

    def keep_map(self, portion: Portion, label: int, crop: Crop) -> None:
        self._crops[self._job.methods[portion.method].name][label] = crop
        self._rows[label] = map_row(
            self._job.shown[portion.method],
            crop,
            self._prediction.labels == label,
            self._prediction.scan.grid.spacing,
        )

    def finish_portion(self, portion: Portion, seconds: float) -> None:
        voxels = {i.label: i.voxels for i in self._prediction.instances}
        self._portions.append(with_seconds(self._rows, voxels, seconds))
        self._rows = {}

    def finish(self, seconds: float) -> Future[ScanRecord]:
        rows = scan_rows(self._entry, self._prediction.instances, self._portions)
        scan = self._entry, self._inputs, self._prediction
        return AtOnce().submit(self._job.success, *scan, rows, seconds)
