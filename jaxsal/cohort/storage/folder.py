"""A cohort's folder: BIDS derivatives, the records of what is done, and work that is not.

What lies where: results under their names, ``run.json`` with all that they depend on, and in the
hidden folder ``.jaxsal`` a record of each scan that is done, the unfinished results of others, and
the locks.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from jaxsal.cohort.storage.names import TABLES, Names, is_result_of
from jaxsal.errors import InputError
from jaxsal.store.claims import withdraw_all
from jaxsal.store.dataset import IGNORED, LAYOUT, README, require_layout
from jaxsal.store.dataset_description import DESCRIPTION
from jaxsal.store.files import write_json
from jaxsal.store.identity import OtherResultsError, flat, require_same
from jaxsal.store.inside import remove_inside, require_inside
from jaxsal.store.lock import Owner, Shard, exclusively, locked, owners
from jaxsal.store.records import ScanRecord

_COMMAND = "cohort run"
_RUN = "run.json"
_EARLIER = ("scans.tsv",)  # of the versions that noted no layout; else it is the user's


class CohortFolder:
    """Where a cohort's results are.

    Args:
        root: the folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._state = root / ".jaxsal"

    def record_path(self, stem: str) -> Path:
        """Where the record of a scan is."""
        return self._state / "scans" / f"{stem}.json"

    def work_path(self, stem: str) -> Path:
        """Where the unfinished results of a scan are."""
        return self._state / "work" / stem

    def claim_path(self, stem: str) -> Path:
        """The lock of whoever works on a scan."""
        return self._state / "claims" / f"{stem}.lock"

    def record(self, stem: str) -> ScanRecord | None:
        """What is known of a scan; None if it is not done, or its record is damaged."""
        return self.read_record(self.record_path(stem), stem)

    def read_record(self, path: Path, stem: str) -> ScanRecord | None:
        """A scan's record from wherever it is; None as for `record`."""
        return ScanRecord.read(path, self.root, stem, is_result_of)

    def records(self) -> Iterator[ScanRecord]:
        """What is known of the scans that are done."""
        for path in self.record_paths():
            record = self.record(path.stem)
            if record is not None:
                yield record

    def record_paths(self) -> list[Path]:
        """Where records are, damaged ones as well."""
        return sorted((self._state / "scans").glob("*.json"))

    def forget(self, record: ScanRecord) -> None:
        """Removes a scan's record, its results and the pictures of them.

        The record is put aside first, and removed last: `complete_forgetting` goes on from it.
        """
        with suppress(FileNotFoundError):
            os.replace(self.record_path(record.stem), self._leaving_path(record.stem))
        self._remove_files(record)

    def complete_forgetting(self, stem: str) -> None:
        """Completes what a run that was killed began to forget; there may be nothing."""
        path = self._leaving_path(stem)
        record = self.read_record(path, stem)
        if record is not None:
            self._remove_files(record)
        path.unlink(missing_ok=True)  # also a damaged one

    def _leaving_path(self, stem: str) -> Path:
        return self._state / "leaving" / f"{stem}.json"

    def _remove_files(self, record: ScanRecord) -> None:
        pictures = self.root.glob(Names(record.stem).pictures)
        remove_inside(self.root, [self._name(path) for path in pictures])
        remove_inside(self.root, record.files)
        self._leaving_path(record.stem).unlink(missing_ok=True)

    def _name(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()

    @contextmanager
    def tables_locked(self) -> Iterator[None]:
        """For whoever reads the records and writes the tables, lest an older state replaces one."""
        with exclusively(self._state / "locks", "tables"):
            yield

    def list_scans(self, scans: Mapping[str, str]) -> None:
        """Keeps what the scans of the whole cohort are called, by their stems."""
        write_json(self._state / "cohort.json", dict(scans))

    def scans(self) -> dict[str, str]:
        """What `list_scans` kept; empty if nothing."""
        try:
            return dict(json.loads((self._state / "cohort.json").read_bytes()))
        except (OSError, ValueError):
            return {}

    def unfinished(self) -> dict[str, int]:
        """Stems of the scans that were begun, with how many portions of each are recorded."""
        return {
            path.name: len(list(path.glob("portion-*.json")))
            for path in sorted(self._state.glob("work/*"))
            if not self.record_path(path.name).exists()
        }

    def runs(self) -> dict[str, Owner]:
        """Who works in the folder now, by shard."""
        return owners(self._state / "locks")

    def told(self) -> dict[str, Any]:
        """What ``run.json`` tells.

        Raises:
            InputError: there is no such file of a cohort's run, or of one of another version, which
                gave files other names.
        """
        told = self._told()
        require_layout(self.root, told)
        return told

    def _told(self) -> dict[str, Any]:
        path = self.root / _RUN
        try:
            told = json.loads(path.read_bytes())
            if told["command"] == _COMMAND:
                return dict(told)
        except (OSError, ValueError, KeyError, TypeError):
            pass
        raise InputError(
            f"{self.root} holds no results of `jaxsal {_COMMAND}`: there is no {path.name} of such "
            "a run; give the folder that was its --out"
        )

    def memory(self) -> int | None:
        """The memory budget of the run that began the folder, in bytes, if there was one."""
        try:
            return int(self.told()["memory"])
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
            identity: all that results depend on but the scans, ready for JSON.
            facts: what is recorded beside it.
            scans: what those of the whole cohort are called, by their stems.
            shard: of the scans.
            overwrite: remove the results of a run of another identity, or of the same.

        Yields:
            Who worked in it last, if that run was killed.

        Raises:
            InputError: it cannot be written, is in use by other files or another run, or holds
                results of another identity.
        """
        if overwrite and shard.parts > 1:
            raise InputError("a shard cannot begin anew, others may be at work: run without shards")
        self._check_content()

        def begin(others: bool) -> None:
            self._begin(identity, facts, scans, overwrite=overwrite, others=others)

        try:
            with locked(self._state / "locks", shard, begin) as killed:
                yield killed
        except OSError as error:
            if error.filename is None or not str(error.filename).startswith(str(self.root)):
                raise
            raise InputError(
                f"cannot write into {self.root}: {error.strerror}; choose another folder, or see "
                "to its rights and space"
            ) from error

    def _check_content(self) -> None:
        if self.root.exists() and not self.root.is_dir():
            raise InputError(f"{self.root} is a file; give a folder for the results")
        if not self.root.is_dir() or (self.root / _RUN).exists():
            return
        names = [path.name for path in self.root.iterdir() if not path.name.startswith(".")]
        foreign = sorted(set(names) - {DESCRIPTION, README})  # a killed run may leave these
        if foreign and not (self.root / _RUN).exists():  # another shard may have begun meanwhile
            raise InputError(
                f"{self.root} holds other files, such as {foreign[0]}; give a new or empty folder, "
                "or one that a run of this cohort was begun in"
            )

    def _begin(
        self,
        identity: Mapping[str, Any],
        facts: Mapping[str, Any],
        scans: Mapping[str, str],
        *,
        overwrite: bool,
        others: bool,
    ) -> None:
        for part in ("scans", "leaving", "work", "claims"):
            (self._state / part).mkdir(exist_ok=True)
        identity = json.loads(json.dumps(identity))  # as it is read back
        if (self.root / _RUN).exists():
            if overwrite:
                self._remove_results(self._told())
            else:
                _require_same(self.root, self.told()["identity"], identity)
        if others and self.scans() != scans:
            raise InputError(
                f"another shard is at work in {self.root} on another list of scans; give all "
                "shards the same, or wait for it"
            )
        if not others:
            self._sweep()
        self.list_scans(scans)
        begun = {"command": _COMMAND, "layout": LAYOUT, "identity": identity}
        write_json(self.root / _RUN, begun | dict(facts))

    def _sweep(self) -> None:
        """Removes what writers that were killed left half-written."""
        for folder in (self.root, self._state, self._state / "scans", self._state / "claims"):
            for path in folder.glob(".*.part"):
                path.unlink(missing_ok=True)

    def _remove_results(self, told: Mapping[str, Any]) -> None:
        """Removes what runs wrote, and nothing else; ``run.json`` last, by which it is known."""
        withdraw_all(self._state / "claims")  # from workers of a run that was killed
        for path in (self._state / "leaving").glob("*.json"):
            self.complete_forgetting(path.stem)
        for record in list(self.records()):
            self.forget(record)
        for path in self.record_paths():
            path.unlink()  # damaged: nobody knows its results
        for path in (self._state / "work").iterdir():
            shutil.rmtree(path)
        for folder in sorted(self.root.glob("sub-*/**/"), reverse=True):
            with suppress(OSError, InputError):  # not empty, or elsewhere
                require_inside(self.root, [self._name(folder)])
                folder.rmdir()
        earlier = () if "layout" in told else _EARLIER
        for name in (*TABLES, *earlier, "report.html", DESCRIPTION, IGNORED, _RUN):
            (self.root / name).unlink(missing_ok=True)


def _require_same(root: Path, earlier: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    model = "model.parameters_sha256"
    if flat(earlier).get(model) != flat(now).get(model):
        raise OtherResultsError(
            f"{root} holds results of another model, which are not mixed",
            "Choose another folder, go on with the earlier model, or begin anew with --overwrite",
        )
    require_same(root, earlier, now, "results of other settings, which are not mixed")
