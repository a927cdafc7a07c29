"""A run over a cohort as an iterator of results; what earlier runs finished is not done again."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jaxsal.cohort.parts import Maps, ScanOutcome
from jaxsal.cohort.storage.folder import CohortFolder
from jaxsal.cohort.storage.names import RESULTS
from jaxsal.cohort.storage.table import write_tables
from jaxsal.cohort.storage.work import ScanWork
from jaxsal.display import Display
from jaxsal.errors import OutputError
from jaxsal.inputs.entries import Entry
from jaxsal.store.bids_dataset import describe
from jaxsal.store.claims import take_back
from jaxsal.store.lock import Shard
from jaxsal.store.records import ScanRecord, are_same
from jaxsal.tables import Row

if TYPE_CHECKING:
    from jaxsal.cohort.job import CohortJob
    from jaxsal.cohort.machines.cluster import Cluster
    from jaxsal.cohort.run import Local


@dataclass(frozen=True)
class ScanResult:
    """The result of one scan of a cohort.

    Attributes:
        id: of the scan.
        status: "finished" or "failed".
        reason: why it failed, or warnings, such as lesions left out; may be empty.
        rows: one per explained lesion, as in the table over the cohort.
        files: its results.
        maps: the maps themselves, if there is no folder for them.
        seconds: that computing took.
        is_new: whether this run computed it, not an earlier one.
    """

    id: str
    status: str
    reason: str
    rows: list[Row]
    files: tuple[Path, ...]
    maps: Maps | None
    seconds: float
    is_new: bool


class CohortRun(Iterator[ScanResult]):
    """A run over a cohort; iterate over it for the results, as they are complete.

    Use it in a ``with`` block, so that it ends when the block does.

    Results of earlier runs come first. When the run is closed, or an exception such as
    ``KeyboardInterrupt`` is raised in its iteration, unfinished scans are left: their recorded
    portions stay, and a later run goes on there.

    Attributes:
        entries: the scans of this run's shard.
        notes: sentences about earlier runs, such as scans that are done again; complete when the
            first new result is there.
    """

    def __init__(
        self,
        job: CohortJob,
        entries: Sequence[Entry],
        machines: Local | Cluster,
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
        self._parcelled = any(entry.scan.parcellation for entry in entries)
        results = self._computed(self.entries) if folder is None else self._in(folder)
        self._results = self._shown(results, display)

    def __next__(self) -> ScanResult:
        return next(self._results)

    def __enter__(self) -> CohortRun:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the run; unfinished scans keep their recorded portions."""
        self._results.close()

    @property
    def busy_share(self) -> float | None:
        """Share of the time in which devices computed, from 0 to 1; None if unknown."""
        return self._machines.busy_share

    def _shown(self, results: Generator[ScanResult], display: Display) -> Generator[ScanResult]:
        with closing(results), display:
            for done, result in enumerate(results, 1):
                display.update(done, len(self.entries), f"{done}/{len(self.entries)} scans")
                yield result

    def _in(self, folder: CohortFolder) -> Generator[ScanResult]:
        facts = {
            "memory": self._job.memory,
            "scans": len(self._everybody),
            **self._job.ran,
            "outline": asdict(self._job.outline(parcelled=self._parcelled)),
        }
        scans = {entry.stem: entry.id for entry in self._everybody}
        with folder.opened(
            self._job.identity, facts, scans, self._shard, overwrite=self._overwrite
        ) as killed:
            images = (image for entry in self._everybody for image in entry.scan.images)
            describe(folder.root, RESULTS, images)
            if killed:
                self.notes.append(f"an earlier run was killed ({killed}); going on where it ended")
            # From workers of a run that was killed.
            take_back(folder.claim_path(entry.stem) for entry in self.entries)
            todo = []
            for entry in self.entries:
                record = self._keep_or_forget(folder, entry)
                if record is None:
                    todo.append(entry)
                else:
                    yield _result(record, folder, is_new=False)
            try:
                yield from self._computed(todo)
            except BaseException:
                with suppress(OSError, OutputError):  # the first error is the one to raise
                    self._write_tables(folder)
                raise
            self._write_tables(folder)

    def _computed(self, todo: Sequence[Entry]) -> Generator[ScanResult]:
        with closing(self._machines.outcomes(self._job, todo, self._folder)) as outcomes:
            for outcome in outcomes:
                yield self._result(outcome)

    def _keep_or_forget(self, folder: CohortFolder, entry: Entry) -> ScanRecord | None:
        """The record of a scan that need not be computed; else None, and earlier results go."""
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
            ScanWork(folder, entry.stem).discard()  # which a run may have failed to do
            return record
        folder.forget(record)
        return None

    def _result(self, outcome: ScanOutcome) -> ScanResult:
        if outcome.fatal is not None:
            raise outcome.fatal
        record = outcome.record
        assert record is not None  # None only if the run was stopped, which ends the iteration
        if self._folder is not None and record.status == "failed":
            record.write(self._folder.record_path(record.stem))
        return _result(record, self._folder, is_new=True, maps=outcome.maps)

    def _write_tables(self, folder: CohortFolder) -> None:
        records = (folder.record(entry.stem) for entry in self._everybody)
        with folder.tables_locked():
            columns = self._job.columns(parcelled=self._parcelled)
            write_tables(folder.root, columns, (record for record in records if record))


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
