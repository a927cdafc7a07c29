"""A cohort's folder: BIDS derivatives, records of scans, and unfinished work.

It holds results under their names and ``run.json`` with all that they depend on. Its hidden folder
``.jaxsal`` holds a record of each scan that is done, the unfinished results of others, and the
locks.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from jaxsal.cohort.storage.names import TABLES, Names, is_result_of
from jaxsal.cohort.storage.rows import check_row
from jaxsal.cohort.storage.run_record import checked
from jaxsal.errors import InputError
from jaxsal.store.bids_dataset import DESCRIPTION, IGNORED, LAYOUT, README
from jaxsal.store.claims import withdraw_all
from jaxsal.store.file_list import portion_records
from jaxsal.store.files import read_json, write_json
from jaxsal.store.inside import remove_inside, require_inside
from jaxsal.store.lock import Owner, Shard, exclusively, owners
from jaxsal.store.records import ScanRecord
from jaxsal.store.run_folder import RunFolder
from jaxsal.store.schema import as_type

_EARLIER = ("scans.tsv",)  # of the versions that noted no layout; else it is the user's


class CohortFolder:
    """The folder of a cohort's results.

    Args:
        root: the folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._folder = RunFolder(
            root,
            "cohort run",
            holds="results of {}, which are not mixed",
            layout=LAYOUT,
            harmless=(DESCRIPTION, README),
        )
        self._state = self._folder.state

    def record_path(self, stem: str) -> Path:
        """The path of a scan's record."""
        return self._state / "scans" / f"{stem}.json"

    def work_path(self, stem: str) -> Path:
        """The folder of a scan's unfinished results."""
        return self._state / "work" / stem

    def claim_path(self, stem: str) -> Path:
        """The lock of a scan, held by the worker that computes it."""
        return self._state / "claims" / f"{stem}.lock"

    def record(self, stem: str) -> ScanRecord | None:
        """The record of a scan; None if the scan is not done, or the record is damaged."""
        return self.read_record(self.record_path(stem), stem)

    def read_record(self, path: Path, stem: str) -> ScanRecord | None:
        """A scan's record from this path; None as for `record`."""
        return ScanRecord.read(path, self.root, stem, is_result_of, check_row)

    def records(self) -> Iterator[ScanRecord]:
        """The records of the scans that are done."""
        records = (self.record(path.stem) for path in self.record_paths())
        return (record for record in records if record is not None)

    def record_paths(self) -> list[Path]:
        """The paths of all records, including damaged ones."""
        return sorted((self._state / "scans").glob("*.json"))

    def forget(self, record: ScanRecord) -> None:
        """Removes a scan's record, its results and the pictures of them.

        The record is put aside first, and removed last: `complete_forgetting` goes on from it.
        """
        with suppress(FileNotFoundError):
            os.replace(self.record_path(record.stem), self._leaving_path(record.stem))
        self._remove_files(record)

    def complete_forgetting(self, stem: str) -> None:
        """Completes the forgetting of a scan that a killed run began, if one did."""
        path = self._leaving_path(stem)
        record = self.read_record(path, stem)
        if record is not None:
            self._remove_files(record)
        path.unlink(missing_ok=True)  # also a damaged one

    def _leaving_path(self, stem: str) -> Path:
        return self._state / "leaving" / f"{stem}.json"

    def _remove_files(self, record: ScanRecord) -> None:
        names = Names(record.stem)
        for pattern in (names.pictures, names.views):
            remove_inside(self.root, [self._name(path) for path in self.root.glob(pattern)])
        remove_inside(self.root, record.files)
        self._leaving_path(record.stem).unlink(missing_ok=True)

    def _name(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()

    @contextmanager
    def tables_locked(self) -> Iterator[None]:
        """A lock to read the records and write the tables under, so that no older state wins."""
        with exclusively(self._state / "locks", "tables"):
            yield

    def list_scans(self, scans: Mapping[str, str]) -> None:
        """Keeps the ids of the scans of the whole cohort, by their stems."""
        write_json(self._ids, dict(scans))

    def scans(self) -> dict[str, str]:
        """The ids that `list_scans` kept; empty if none, or they are damaged."""
        try:
            kept: dict[str, str] = as_type(dict[str, str], read_json(self._ids), "the ids")
        except InputError:
            return {}
        return kept

    @property
    def _ids(self) -> Path:
        return self._state / "cohort.json"

    def unfinished(self) -> dict[str, int]:
        """The number of recorded portions of each scan that was begun, by stem."""
        return {
            path.name: len(portion_records(path))
            for path in sorted(self._state.glob("work/*"))
            if not self.record_path(path.name).exists()
        }

    def runs(self) -> dict[str, Owner]:
        """The runs that work in the folder now, by shard."""
        return owners(self._state / "locks")

    def recorded(self) -> dict[str, Any]:
        """What ``run.json`` says, of which nothing but command and layout is certain.

        Raises:
            InputError: no cohort's run wrote such a file, or one of a version that gave files other
                names.
        """
        return self._folder.recorded()

    def run(self) -> dict[str, Any]:
        """What ``run.json`` says, with all that readers of results need.

        Raises:
            InputError: as for `recorded`, or the file is damaged.
        """
        return checked(self.recorded(), self._folder.record)

    def memory(self) -> int | None:
        """The memory budget of the run that began the folder, in bytes, if there was one."""
        try:
            return int(self.recorded()["memory"])
        except (InputError, KeyError, TypeError, ValueError):
            return None

    @contextmanager
    def opened(
        self,
        identity: Mapping[str, Any],
        facts: Mapping[str, Any],
        scans: Mapping[str, str],
        shard: Shard,
        *,
        overwrite: bool,
    ) -> Iterator[Owner | None]:
        """The folder in use by a run, begun with its identity or found to have the same.

        Args:
            identity: all that results depend on except the scans, ready for JSON.
            facts: recorded beside it.
            scans: the ids of the whole cohort's scans, by their stems.
            shard: of the scans.
            overwrite: remove the results of a run of another identity, or of the same.

        Yields:
            The owner of the run before, if that was killed.

        Raises:
            InputError: it cannot be written, is in use by other files or another run, or holds
                results of another identity.
            OutputError: its record cannot be written.
        """
        if overwrite and shard.parts > 1:
            raise InputError("a shard cannot begin anew, others may be at work: run without shards")

        def begin(_: Mapping[str, Any] | None, others: bool) -> Mapping[str, Any]:
            self._begin(scans, others=others)
            return facts

        with self._folder.opened(
            identity, begin, self._remove_results, shard, overwrite=overwrite
        ) as killed:
            yield killed

    def _begin(self, scans: Mapping[str, str], *, others: bool) -> None:
        parts = [self._state / part for part in ("scans", "leaving", "work", "claims")]
        for part in parts:
            part.mkdir(exist_ok=True)
        if others and self.scans() != scans:
            raise InputError(
                f"another shard is at work in {self.root} on another list of scans; give all "
                "shards the same, or wait for it"
            )
        self.list_scans(scans)

    def _remove_results(self, run: Mapping[str, Any]) -> None:
        """Removes what runs wrote and nothing else, ``run.json`` last."""
        withdraw_all(self._state / "claims")  # from workers of a run that was killed
        for path in (self._state / "leaving").glob("*.json"):
            self.complete_forgetting(path.stem)
        for record in list(self.records()):
            self.forget(record)
        for path in self.record_paths():
            path.unlink()  # damaged: its results are unknown
        for path in self._state.glob("work/*"):
            shutil.rmtree(path)
        for folder in sorted(self.root.glob("sub-*/**/"), reverse=True):
            with suppress(OSError, InputError):  # not empty, or elsewhere
                require_inside(self.root, [self._name(folder)])
                folder.rmdir()
        earlier = () if "layout" in run else _EARLIER
        for name in (*TABLES, *earlier, "report.html", "ratings.html", DESCRIPTION, IGNORED):
            (self.root / name).unlink(missing_ok=True)
        self._folder.record.unlink()
