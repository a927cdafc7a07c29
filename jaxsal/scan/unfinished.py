"""What a run has finished of its lesions: kept in its folder, for the same command to go on after.

A hidden folder beside the results holds the files of finished portions, a record of each with their
checksums, written last, and a record of what all of it depends on.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from jaxsal.errors import InputError, OutputError
from jaxsal.store.file_list import (
    FILES,
    damaged,
    keep_portion,
    kept_portion,
    list_files,
    portion_records,
)
from jaxsal.store.files import read_json, write_json
from jaxsal.store.identity import require_same
from jaxsal.store.inside import require_no_links
from jaxsal.store.output_folder import OutputFolder
from jaxsal.tables import Row

_FOLDER, _RECORD = ".jaxsal-unfinished", "record.json"
_HOLDS = "finished lesions of an interrupted run of {} or files"


class Unfinished:
    """The finished lesions of a run that is not complete.

    Args:
        out: folder of the run's results.
    """

    def __init__(self, out: str | os.PathLike[str]) -> None:
        self._out = Path(out)
        self._root = self._out / _FOLDER
        self._files = self._root / FILES
        self._record: dict[str, Any] = {}  # of what this run goes on with

    @property
    def lesions(self) -> int:
        """How many lesions are kept."""
        rows = (read_json(path).get("rows") for path in portion_records(self._root))
        return sum(len(each) for each in rows if isinstance(each, list))

    @contextmanager
    def opened(self, identity: Mapping[str, Any], *, overwrite: bool) -> Iterator[None]:
        """Goes on with what is kept of the same run; removes the folder if no lesion was finished.

        Args:
            identity: all that results depend on, ready for JSON.
            overwrite: begin anew if something else is kept.

        Raises:
            OtherResultsError: something else is kept.
            InputError: there is a link in what is kept.
            OutputError: the folder cannot be written.
        """
        if not self.is_of(identity, overwrite=overwrite):
            self.discard()
            self._files.mkdir(parents=True)
            write_json(self._root / _RECORD, {"identity": identity})
        self._record = read_json(self._root / _RECORD)
        try:
            yield
        finally:
            if not self.lesions and self._is_own():
                self.discard()

    def is_of(self, identity: Mapping[str, Any], *, overwrite: bool) -> bool:
        """Whether lesions are kept of the run with this identity; see `opened`."""
        require_no_links(self._root)
        earlier = read_json(self._root / _RECORD).get("identity")
        if earlier is None:
            return False
        now = json.loads(json.dumps(identity))
        if earlier != now and not overwrite:
            require_same(self._out, earlier, now, _HOLDS)
        return bool(earlier == now)

    def is_of_lesions(self, domains: np.ndarray) -> bool:
        """Whether what is kept is of just these lesions; see `go_on`."""
        return read_json(self._root / _RECORD).get("domains") == _checksum(domains)

    def go_on(self, domains: np.ndarray, memory: int) -> int:
        """Keeps nothing of other lesions than these.

        Args:
            domains: (X, Y, Z) integers, what is explained; another device may find others.
            memory: bytes to stay within, as far as there is nothing kept.

        Returns:
            Bytes that the kept maps were computed within, on which maps depend by rounding, unless
            there are far fewer now.
        """
        if not self.is_of_lesions(domains):
            for path in portion_records(self._root):
                path.unlink()
            shutil.rmtree(self._files, ignore_errors=True)
            record = {**self._record, "domains": _checksum(domains), "memory": memory}
            write_json(self._root / _RECORD, record)
        self._record = read_json(self._root / _RECORD)
        first = self._record.get("memory")
        return first if isinstance(first, int) and 0 < first <= 2 * memory else memory

    def keep(
        self, number: int, rows: Sequence[Row], names: Collection[str], results: OutputFolder
    ) -> None:
        """A portion is finished: these are its rows, and these of the results are its files.

        Nothing is kept any more if a run on another host, of which nothing is known here, has
        meanwhile ended in the same folder, or begun anew there.

        Raises:
            OutputError: they cannot be kept.
        """
        if not self._is_own():
            return
        try:
            for name in names:
                (self._files / name).unlink(missing_ok=True)  # of a portion that is not believed
                _same_file(results.path(name), self._files / name)
            files = list_files(self._files, names)
        except OSError as error:
            raise OutputError(
                f"Cannot write {self._files}: {error.strerror}. Check folder, rights and space."
            ) from error
        keep_portion(self._root, number, rows, files)

    def rows(self, number: int, names: Collection[str]) -> list[Any]:
        """What a portion has for rows; none unless its files are there as they were written.

        Args:
            number: of the portion.
            names: of the files that it has when it is finished; it may have no other.
        """
        kept = kept_portion(self._root, number, names.__contains__)
        if kept is None or not isinstance(kept[0], list):
            return []
        rows, files = kept
        return rows if len(files) == len(names) and not damaged(self._files, files) else []

    def hand_over(self, names: Iterable[str], results: OutputFolder) -> None:
        """Adds files of finished portions to the results; they stay here, too, to go on with."""
        for name in names:
            _same_file(self._files / name, results.path(name))

    def require_none(self, *, overwrite: bool) -> None:
        """Refuses a folder for results of anything else as long as lesions are kept in it.

        Args:
            overwrite: let them be removed instead.

        Raises:
            InputError: lesions are kept.
        """
        if self.lesions and not overwrite:
            raise InputError(
                f"{self._out} holds finished lesions of an interrupted `jaxsal explain`: let the "
                "same command go on after them, choose another folder, or remove them with "
                "--overwrite"
            )

    def finish(self) -> None:
        """Removes what this run kept; its results are complete."""
        if self._is_own():
            self.discard()

    def discard(self) -> None:
        """Removes what is kept."""
        shutil.rmtree(self._root, ignore_errors=True)

    def _is_own(self) -> bool:
        """Whether no other run has removed what is kept, or put something else there."""
        return bool(self._record) and read_json(self._root / _RECORD) == self._record


def _checksum(domains: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(domains).tobytes()).hexdigest()


def _same_file(source: Path, target: Path) -> None:
    """Links or copies a file to a name that is not taken."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError:  # a file system without links
        shutil.copyfile(source, target)
