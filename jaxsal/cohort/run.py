"""A whole cohort, as an iterator of results; what is done already is not done again."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import jax

from jaxsal.checkpoints import load_model
from jaxsal.cohort.columns import lesion_columns
from jaxsal.cohort.job import Job
from jaxsal.cohort.machines.cluster import Cluster
from jaxsal.cohort.machines.local import Local
from jaxsal.cohort.machines.pipeline import OnScan, Outcome
from jaxsal.cohort.storage.folder import CohortFolder
from jaxsal.cohort.storage.in_memory import Maps
from jaxsal.cohort.storage.readme import RESULTS
from jaxsal.cohort.storage.table import write_tables
from jaxsal.cohort.storage.work import ScanWork
from jaxsal.devices import every_device
from jaxsal.display import Display
from jaxsal.errors import InputError, OutputError
from jaxsal.inputs.bids import Select
from jaxsal.inputs.entries import Entry, distinct
from jaxsal.inputs.mixture import warn_if_mixed
from jaxsal.inputs.sources import read_cohort
from jaxsal.model import Model
from jaxsal.scan.defaults import for_model
from jaxsal.settings import CohortSettings, PredictSettings
from jaxsal.store.claims import take_back
from jaxsal.store.dataset import describe
from jaxsal.store.lock import Shard
from jaxsal.store.records import ScanRecord, are_same
from jaxsal.tables import Row


@dataclass(frozen=True)
class ScanResult:
    """What became of one scan of a cohort.

    Attributes:
        id: what its owner calls it.
        status: "finished" or "failed".
        reason: why it failed, or what else is to be known of it, such as lesions left out.
        rows: one per explained lesion, as in the table over the cohort.
        files: of its results.
        maps: the maps themselves, if there is no folder for them.
        seconds: that computing took.
        is_new: whether it was computed by this run, not by an earlier one.
    """

    id: str
    status: str
    reason: str
    rows: list[Row]
    files: tuple[Path, ...]
    maps: Maps | None
    seconds: float
    is_new: bool


def run_cohort(
    model: Model | str | os.PathLike[str],
    cohort: str | os.PathLike[str] | Sequence[Entry],
    out: str | os.PathLike[str] | None = None,
    *,
    prediction: PredictSettings | None = None,
    settings: CohortSettings | None = None,
    select: Select | None = None,
    shard: Shard | None = None,
    retry_failed: bool = False,
    overwrite: bool = False,
    devices: Sequence[jax.Device] | None = None,
    scheduler: str | None = None,
    precision: str = "float32",
    on_scan: OnScan | Literal["auto"] | None = "auto",
) -> CohortRun:
    """Finds and explains the lesions of every scan of a cohort (Spagnolo et al. 2026).

    While a device computes a scan, the next one is read and the last one's results are written.
    With a folder, results are recorded portion by portion: a run that ends in whatever way is gone
    on with by the same call. Without one, they are handed over and forgotten.

    Args:
        model: the network, or its directory.
        cohort: a table of scans (TSV, CSV), a BIDS folder, or entries.
        out: folder for the results, BIDS derivatives; None: none are written, and each result
            holds its maps.
        prediction: how lesions are found; None: as the model tells.
        settings: how they are explained.
        select: which images of a BIDS folder are meant.
        shard: only a part of the scans, for several runs into one folder.
        retry_failed: do those scans again that failed before.
        overwrite: begin anew where the folder holds results.
        devices: to compute on, all of one kind; by default all of the best kind that this host
            has, unless others were chosen.
        scheduler: address of a Dask scheduler whose workers compute, such as "tcp://host:8786";
            None: this machine does. All machines must then see the model, which must be a
            directory, the scans and `out` under the same paths.
        precision: arithmetic, where the model is a directory; see `jaxsal.load_model`.
        on_scan: told how far a scan is, from the threads that compute; not with a scheduler. By
            default a bar is shown on a terminal and in notebooks; None: nothing is.

    Returns:
        An iterator of `ScanResult`, in the order in which scans are complete.

    Raises:
        InputError: the cohort, the folder or a setting cannot be worked with. A scan that cannot
            be is no error: its result tells.
    """
    network = model if isinstance(model, Model) else load_model(model, precision)
    if isinstance(cohort, str | os.PathLike):
        entries = read_cohort(cohort, network.channels, select)
    else:
        entries = list(distinct(cohort))
    warn_if_mixed(entries, network.preprocessing)
    prediction = prediction or for_model(
        PredictSettings(), network, roi=None, overlap=None, target=None
    )
    folder = None if out is None else CohortFolder(Path(out).expanduser())
    display = Display("cohort", wanted=on_scan == "auto")
    machines: Machines
    if scheduler is None:
        machines = Local(tuple(devices or every_device()), _told_of_scans(on_scan, display))
    else:
        machines = Cluster(scheduler, _shared(model, out, devices))
    limited = machines.within_memory(settings or CohortSettings(), folder)
    job = Job(network, prediction, limited, machines.ran)
    return CohortRun(
        job, entries, machines, folder, shard or Shard(), retry_failed, overwrite, display
    )


def _told_of_scans(on_scan: OnScan | Literal["auto"] | None, display: Display) -> OnScan:
    if on_scan is not None and on_scan != "auto":
        return on_scan
    return lambda entry, progress: display.note(
        f"{entry.id}: {progress.lesions_done}/{progress.lesions} maps"
    )


def _shared(
    model: Model | str | os.PathLike[str],
    out: str | os.PathLike[str] | None,
    devices: Sequence[jax.Device] | None,
) -> Path:
    """The model's directory, for workers to load it from."""
    if isinstance(model, Model):
        raise InputError(
            "with a scheduler, give the model as its directory, from which the workers load it; "
            "`jaxsal.save_model` writes one"
        )
    if out is None:
        raise InputError("with a scheduler, give a folder for the results that all workers see")
    if devices is not None:
        raise InputError(
            "with a scheduler, devices are the workers' own: start a worker for each, such as with "
            "CUDA_VISIBLE_DEVICES=0"
        )
    return Path(model)


class Machines(Protocol):
    """What computes."""

    @property
    def ran(self) -> Mapping[str, Any]:
        """Device, or scheduler, and software."""
        ...

    @property
    def busy_share(self) -> float | None:
        """Part of the time that devices computed, from 0 to 1; None where it is not known."""
        ...

    def outcomes(
        self, job: Job, entries: Sequence[Entry], folder: CohortFolder | None
    ) -> Generator[Outcome]:
        """Explains these scans; yields what becomes of each, in the order in which they end."""
        ...

    def within_memory(
        self, settings: CohortSettings, folder: CohortFolder | None
    ) -> CohortSettings:
        """The settings with a memory budget, which decides what is computed together."""
        ...


class CohortRun(Iterator[ScanResult]):
    """A run over a cohort; iterate over it for the results, as they are complete.

    Use it in a ``with`` block, so that it ends when the block does.

    Those of earlier runs come first. When it is closed, or an exception such as
    ``KeyboardInterrupt`` is raised in its iteration, the scans in work are dropped: the portions of
    them that were recorded stay, and a later run goes on there.

    Attributes:
        entries: the scans, of this run's shard.
        notes: what was found out about earlier runs, in sentences; complete when the first new
            result is there.
    """

    def __init__(
        self,
        job: Job,
        entries: Sequence[Entry],
        machines: Machines,
        folder: CohortFolder | None,
        shard: Shard,
        retry_failed: bool,
        overwrite: bool,
        display: Display,
    ) -> None:
        self.entries = list(entries)[shard.part - 1 :: shard.parts]
        self.notes: list[str] = []
        self._job, self._everybody, self._machines = job, list(entries), machines
        self._folder, self._shard = folder, shard
        self._retry_failed, self._overwrite = retry_failed, overwrite
        results = self._in_memory() if folder is None else self._in(folder)
        self._results = self._shown(results, display)

    def __next__(self) -> ScanResult:
        return next(self._results)

    def __enter__(self) -> CohortRun:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the run, see the class."""
        self._results.close()

    @property
    def busy_share(self) -> float | None:
        """Part of the time that devices computed, from 0 to 1; None where it is not known."""
        return self._machines.busy_share

    def _shown(self, results: Generator[ScanResult], display: Display) -> Generator[ScanResult]:
        with closing(results), display:
            for done, result in enumerate(results, 1):
                display.update(done, len(self.entries), f"{done}/{len(self.entries)} scans")
                yield result

    def _in_memory(self) -> Generator[ScanResult]:
        with closing(self._machines.outcomes(self._job, self.entries, None)) as outcomes:
            for outcome in outcomes:
                yield self._result(outcome)

    def _in(self, folder: CohortFolder) -> Generator[ScanResult]:
        facts = {
            "memory": self._job.memory,
            "scans": len(self._everybody),
            **self._job.ran,
            "outline": asdict(self._job.outline),
        }
        identity = self._job.identity
        scans = {entry.stem: entry.id for entry in self._everybody}
        with folder.opened(
            identity, facts, scans, self._shard, overwrite=self._overwrite
        ) as killed:
            describe(folder.root, RESULTS, self._images())
            if killed:
                self.notes.append(f"an earlier run was killed ({killed}); going on where it ended")
            # From workers of a run that was killed.
            take_back(folder.claim_path(entry.stem) for entry in self.entries)
            todo = []
            for entry in self.entries:
                record = self._done(folder, entry)
                if record is None:
                    todo.append(entry)
                else:
                    yield _result(record, folder, is_new=False)
            try:
                yield from self._new(folder, todo)
            except BaseException:
                with suppress(OSError, OutputError):  # the first reason is the one to tell
                    self._write_tables(folder)
                raise
            self._write_tables(folder)

    def _images(self) -> Iterator[Path]:
        return (image for entry in self._everybody for image in entry.scan.images)

    def _new(self, folder: CohortFolder, todo: Sequence[Entry]) -> Generator[ScanResult]:
        with closing(self._machines.outcomes(self._job, todo, folder)) as outcomes:
            for outcome in outcomes:
                yield self._result(outcome)

    def _done(self, folder: CohortFolder, entry: Entry) -> ScanRecord | None:
        """The record of a scan that is not to be done, or not again."""
        folder.complete_forgetting(entry.stem)
        ScanWork(folder, entry.stem).settle()
        record = folder.record(entry.stem)
        if record is None:
            return None
        missing = record.missing(folder.root)
        if record.id != entry.id:
            self.notes.append(
                f"{entry.id}: was called {record.id} by the run before; it is done again"
            )
        elif not are_same(record.inputs, entry.scan, self._job.model.channels):
            self.notes.append(f"{entry.id}: its files have changed since; it is done again")
        elif missing:
            self.notes.append(
                f"{entry.id}: {missing[0]} is gone or has changed since; it is done again"
            )
        elif record.status == "finished" or not self._retry_failed:
            return record
        folder.forget(record)
        return None

    def _result(self, outcome: Outcome) -> ScanResult:
        if outcome.fatal is not None:
            raise outcome.fatal
        record = outcome.record
        assert record is not None  # it is only if the run was stopped, which ends the iteration
        if self._folder is not None and record.status == "failed":
            record.write(self._folder.record_path(record.stem))
        return _result(record, self._folder, is_new=True, maps=outcome.maps)

    def _write_tables(self, folder: CohortFolder) -> None:
        def records() -> Iterator[ScanRecord]:
            for entry in self._everybody:
                record = folder.record(entry.stem)
                if record is not None:
                    yield record

        with folder.tables_locked():
            write_tables(folder.root, lesion_columns(self._job.shown), records())


def _result(
    record: ScanRecord, folder: CohortFolder | None, *, is_new: bool, maps: Maps | None = None
) -> ScanResult:
    return ScanResult(
        record.id,
        record.status,
        record.reason,
        record.rows,
        tuple(folder.root / name for name in record.files) if folder else (),
        maps,
        record.seconds,
        is_new,
    )
