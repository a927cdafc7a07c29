"""What takes a scan's results while it is computed: the cohort's folder, or memory."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from jaxsal.approximated import is_approximated
from jaxsal.cohort.columns import map_row, scan_rows, with_seconds
from jaxsal.cohort.parts import AtOnce, Maps, Portion
from jaxsal.cohort.storage.folder import CohortFolder
from jaxsal.cohort.storage.names import Names
from jaxsal.cohort.storage.work import Files, ScanWork
from jaxsal.inputs.entries import Entry
from jaxsal.inputs.images import LoadedScan
from jaxsal.saliency.maps import Crop
from jaxsal.scan.map_files import in_file, parts_of, write_maps
from jaxsal.scan.prediction import Prediction
from jaxsal.scan.region_table import REGIONS, region_rows
from jaxsal.store.files import write_json
from jaxsal.store.records import Inputs, ScanRecord
from jaxsal.tables import Row, write_table
from jaxsal.volumes import write_volume

if TYPE_CHECKING:
    from jaxsal.cohort.job import CohortJob

_UNCERTAINTY = {
    "entropy": "Predictive entropy of lesion, of the mean probability of the members, in nats",
    "variance": "Variance of the probability of lesion over the members",
    "candidates": "Where lesions may have been missed, a label each: high entropy, none found",
}


class Keeper:
    """Takes the results of a scan, and keeps them in memory.

    Args:
        job: of the run.
        entry: the scan.
        inputs: the scan's files as they are.
    """

    def __init__(self, job: CohortJob, entry: Entry, inputs: Inputs) -> None:
        self._job, self._entry, self._inputs = job, entry, inputs
        self._rows: dict[int, Row] = {}
        self._kept: list[dict[int, Row]] = []
        self._crops: dict[str, dict[int, Crop]] = {method.name: {} for method in job.methods}

    @property
    def maps(self) -> Maps | None:
        """The maps, if they are kept in memory."""
        grid = self._prediction.scan.grid
        crops = {
            method: {label: in_file(crop, grid) for label, crop in found.items()}
            for method, found in self._crops.items()
        }
        return Maps(grid.file, grid.to_file(self._prediction.domains), crops)

    def restored(self, loaded: LoadedScan) -> Prediction | None:
        """The scan's lesions, if they were found before."""
        return None

    def keep_prediction(self, prediction: Prediction) -> None:
        """Keeps the scan's lesions."""
        self._prediction = prediction

    def take_over(self, portion: Portion) -> bool:
        """Takes over what an earlier run kept of a portion; whether it kept it."""
        return False

    def keep_map(self, portion: Portion, label: int, crop: Crop) -> None:
        """Keeps a lesion's map."""
        self._crops[self._job.methods[portion.method].name][label] = crop
        self._rows[label] = self._row(portion.method, label, crop)

    def finish_portion(self, portion: Portion, seconds: float) -> None:
        """Ends a portion, all of whose maps were handed over.

        Args:
            portion: the portion.
            seconds: that computing its maps took.
        """
        self._kept.append(with_seconds(self._rows, self._prediction.instances, seconds))
        self._rows = {}

    def finish(self, seconds: float) -> Future[ScanRecord]:
        """Ends the scan, all of whose portions were finished: makes its results appear.

        Args:
            seconds: that computing took, in this run.
        """
        rows = scan_rows(self._entry, self._prediction, self._kept)
        return AtOnce().submit(self._success, rows, seconds)

    def _row(self, method: int, label: int, crop: Crop) -> Row:
        """The part of a lesion's row that comes from its map."""
        domain, grid = self._prediction.domains == label, self._prediction.scan.grid
        shown, parcellation = self._job.shown[method], self._prediction.scan.parcellation
        row = map_row(shown, crop, domain, grid.spacing)
        if parcellation is not None:
            name = self._job.methods[method].name
            row[REGIONS] = region_rows(name, shown, crop, parcellation)
        return row

    def _success(self, rows: list[Row], seconds: float, files: Files | None = None) -> ScanRecord:
        scan = self._entry, self._inputs, self._prediction
        return self._job.success(*scan, rows, seconds, files)


class FolderKeeper(Keeper):
    """Writes a scan's results into the cohort's folder, and knows what an earlier run left of them.

    Args:
        job: of the run.
        entry: the scan.
        inputs: the scan's files as they are.
        folder: the cohort's.
        writer: writes, at once or in threads.
    """

    maps = None  # they are in the folder

    def __init__(
        self, job: CohortJob, entry: Entry, inputs: Inputs, folder: CohortFolder, writer: AtOnce
    ) -> None:
        super().__init__(job, entry, inputs)
        self._writer, self._names = writer, Names(entry.stem)
        self._work = ScanWork(folder, entry.stem)
        self._work.begin(inputs)
        self._saved: list[Future[None]] = []
        self._pending: list[Future[tuple[int, Row, Files]]] = []
        self._portions: list[Future[tuple[dict[int, Row], Files]]] = []
        self._earlier_seconds = 0.0  # of portions that an earlier run computed

    def restored(self, loaded: LoadedScan) -> Prediction | None:
        prediction, asked = self._work.lesions(loaded), self._job.settings.uncertainty
        if prediction is not None and asked is not None:
            if prediction.uncertainty is None:
                return None  # damaged
            found = prediction.uncertainty.with_candidates(prediction, self._job.prediction, asked)
            prediction = replace(prediction, uncertainty=found)
        if prediction is not None:
            self._prediction = prediction
        return prediction

    def keep_prediction(self, prediction: Prediction) -> None:
        self._prediction = prediction
        self._saved.append(self._writer.submit(self._work.save_lesions, prediction))

    def take_over(self, portion: Portion) -> bool:
        kept = self._work.portion(portion.number, portion.labels)
        if kept is not None:
            self._earlier_seconds += sum(row["seconds"] for row in kept[0].values())
            self._portions.append(AtOnce().submit(lambda: kept))
        return kept is not None

    def keep_map(self, portion: Portion, label: int, crop: Crop) -> None:
        begun: list[Future[Any]] = [*self._saved, *self._portions, *self._pending]
        for future in begun:
            if future.done():
                future.result()  # what cannot be written ends the scan at once, not at its end
        self._pending.append(self._writer.submit(self._write_map, portion.method, label, crop))

    def finish_portion(self, portion: Portion, seconds: float) -> None:
        written, self._pending = self._pending, []
        self._portions.append(
            self._writer.submit(self._record_portion, portion.number, written, seconds)
        )

    def finish(self, seconds: float) -> Future[ScanRecord]:
        return self._writer.submit(self._publish, seconds)

    def _write_map(self, method: int, label: int, crop: Crop) -> tuple[int, Row, Files]:
        output, files = self._job.settings.output, self._job.shown[method].files
        names: list[str] = []
        for ending, part in parts_of(crop) if output != "table" else ():
            new = [self._names.map(label, f"{file}{ending}") for file in files]
            paths = [self._work.path(name) for name in new]
            write_maps(paths, self._prediction.scan.grid, part, full_grid=output == "full")
            names += new
        return label, self._row(method, label, crop), self._work.files(names)

    def _record_portion(
        self, number: int, written: Sequence[Future[tuple[int, Row, Files]]], seconds: float
    ) -> tuple[dict[int, Row], Files]:
        for saved in self._saved:
            saved.result()  # a portion is of use only with the label map that it belongs to
        parts = [future.result() for future in written]
        found = {label: row for label, row, _ in parts}
        rows = with_seconds(found, self._prediction.instances, seconds)
        files = {name: file for _, _, new in parts for name, file in new.items()}
        self._work.save_portion(number, rows, files)
        return rows, files

    def _publish(self, seconds: float) -> ScanRecord:
        for saved in self._saved:
            saved.result()
        portions = [portion.result() for portion in self._portions]
        rows = scan_rows(self._entry, self._prediction, [rows for rows, _ in portions])
        files = {name: file for _, new in portions for name, file in new.items()}
        files |= self._work.files(self._write_others(rows))
        record = self._success(rows, seconds + self._earlier_seconds, files)
        self._work.publish(record)
        return record

    def _write_others(self, rows: list[Row]) -> list[str]:
        """Writes all but the maps; returns the names."""
        names, grid = self._names, self._prediction.grid
        write_volume(self._work.path(names.labels), self._prediction.labels, grid)
        parcelled = self._prediction.scan.parcellation is not None
        own = self._job.columns(parcelled=parcelled)
        columns = ["index", "name", *(column.key for column in own)]
        write_table(self._work.path(names.table), columns, map(partial(_bids_row, columns), rows))
        sidecars = {
            names.labels_sidecar: self._about("Lesions, a label each, and what their maps come to")
        }
        written = [names.labels, names.table]
        if self._job.settings.output != "table":
            write_volume(self._work.path(names.probability), self._prediction.probability, grid)
            about = self._about("Probability of lesion, by the network")
            sidecars |= {names.probability_sidecar: about, **self._of_maps(rows)}
            written.append(names.probability)
            uncertainty = self._prediction.uncertainty
            for kind, volume in (uncertainty.volumes if uncertainty else {}).items():
                written.append(names.uncertainty(kind))
                write_volume(self._work.path(written[-1]), volume, grid)
                sidecars[names.uncertainty_sidecar(kind)] = self._of_members(kind)
        for name, content in sidecars.items():
            write_json(self._work.path(name), content)
        return [*written, *sidecars]

    def _about(self, description: str) -> dict[str, Any]:
        """The sidecar of a file on the grid of the first image."""
        sources = self._sources
        return {"Description": description, "SpatialReference": sources[0], "Sources": sources}

    def _of_members(self, kind: str) -> dict[str, Any]:
        """The sidecar of a map of uncertainty."""
        members = self._job.identity["settings"]["uncertainty"]
        return {**self._about(_UNCERTAINTY[kind]), "Members": members}

    def _of_maps(self, rows: list[Row]) -> dict[str, dict[str, Any]]:
        """The sidecars of the maps of each method and channel, by name."""
        approximated = {_name(row): row["approximated"] for row in filter(is_approximated, rows)}
        return {
            self._names.sidecar(file): {
                "Description": f"Saliency of a lesion: {method.name}, {channel}",
                "Method": method.name,
                "Channel": channel,
                "Units": shown.units,
                "Settings": self._job.identity["settings"]["saliency"][method.name],
                "Approximated": approximated if shown.approximation else {},
                "Cropped": self._job.settings.output == "cropped",
                **{name.title(): fact for name, fact in self._prediction.resampled.items()},
                "Sources": self._sources,
            }
            for shown, method in zip(self._job.shown, self._job.methods, strict=True)
            for file, channel in zip(shown.files, shown.maps, strict=True)
        }

    @property
    def _sources(self) -> list[str]:
        """The scan's files, images first."""
        return [stamp.uri for stamp in self._inputs.values() if stamp is not None]


def _bids_row(columns: Sequence[str], row: Row) -> Row:
    """A row in BIDS's form: with the label's index and name, and no empty cells."""
    named = {"index": row["label"], "name": _name(row), **row}
    return {key: "n/a" if named.get(key) in (None, "") else named[key] for key in columns}


def _name(row: Row) -> str:
    return f"lesion{row['label']:04d}"
