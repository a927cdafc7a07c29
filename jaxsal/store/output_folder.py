"""A folder of results that appears whole or not at all, and whose owner's files are safe in it.

Results are written into a hidden folder inside the final one and moved up when all are complete.
``run.json`` comes last and lists them with their checksums; ``overwrite`` removes what such a list
names and nobody has changed since, and nothing else. A page that is made of them later joins it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from jaxsal.errors import InputError, JaxsalError, OutputError, unwritable
from jaxsal.store.files import (
    file_checksum,
    read_json,
    sync_folder,
    sync_folders,
    whole_file,
)
from jaxsal.store.inside import is_inside
from jaxsal.store.staging import (
    EARLIER,
    FRESH,
    keep_staging,
    killed_stagings,
    open_staging,
    remove_staging,
)

RECORD = "run.json"
_OURS = (
    *("prediction.nii.gz", "instances.nii.gz", "instances.tsv", "index.html", RECORD),
    *("entropy.nii.gz", "variance.nii.gz", "candidates.nii.gz", "regions.tsv"),
    "ratings.html",  # see `write_later`
)
_OUR_FOLDERS = ("maps", "pictures")


class OutputFolder:
    """Use as a context manager; `commit` at the end of the block makes the results appear.

    Args:
        folder: where the results will be.
        overwrite: begin anew where earlier runs left results; see `jaxsal.store`.

    Raises:
        InputError: the folder holds other files, or results that are not to be overwritten; it is
            a file, or cannot be written; or another run is writing into it.
        OutputError: the disk fails, or is full.
    """

    def __init__(self, folder: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        self.folder = Path(folder)
        self._overwrite = overwrite
        self._staging: Path | None = None
        self._made: list[Path] = []

    def __enter__(self) -> OutputFolder:
        try:
            self._undo_killed()
            self.check()
            self._make_folder()
            self._staging = open_staging(self.folder)
        except JaxsalError:
            self._remove_made()
            raise
        except OSError as error:
            self._remove_made()
            raise unwritable(self.folder, error) from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._staging is not None:
            remove_staging(self._staging)
        self._remove_made()

    def path(self, name: str) -> Path:
        """Where to write a result, such as "maps/lesion-0001.nii.gz", for now."""
        path = self._fresh / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def commit(self, record: dict[str, Any]) -> None:
        """Moves everything into the folder; the record, with a list of the files, comes last.

        Raises:
            InputError: the folder cannot be written, or another run's results have come into it.
            OutputError: the disk fails, or is full. In either case the folder is left unchanged,
                and the results are kept beside its files, where the message says.
        """
        try:
            retired = self._publish(record)
        except (OSError, JaxsalError) as error:
            said = unwritable(self.folder, error) if isinstance(error, OSError) else error
            kept, self._staging = keep_staging(self._staging_folder), None
            kind = InputError if isinstance(said, InputError) else OutputError
            told = f"{str(said).rstrip('.')}. The complete results are kept in {kept}"
            raise kind(told) from error
        with suppress(OSError):  # then a later run removes them
            for path in retired:
                path.unlink(missing_ok=True)
        _remove_empty(self.folder)

    def _publish(self, record: dict[str, Any]) -> list[Path]:
        """Moves the results up; returns where the files that they replace now are."""
        files = sorted(p for p in self._fresh.rglob("*") if p.is_file())
        names = [path.relative_to(self._fresh).as_posix() for path in files]
        checksums = dict(zip(names, map(file_checksum, files), strict=True))
        _write_record(self.path(RECORD), {**record, "files": checksums})
        self.check()  # another run may have ended meanwhile
        earlier = self._earlier()
        self._require_free(set(names) - set(earlier))
        retired = [(self.folder / name, self._staging_folder / EARLIER / name) for name in earlier]
        arrived = [(self._fresh / name, self.folder / name) for name in names]
        sync_folder(self._staging_folder)
        sync_folder(self.folder)
        with _moving(self.folder) as move:
            for source, target in [*retired, *arrived]:
                move(source, target)
            sync_folders(self.folder, names)  # before the record says that they are there
            move(self._fresh / RECORD, self.folder / RECORD)
            sync_folder(self.folder)
        return [target for _, target in retired]

    def _undo_killed(self) -> None:
        """Takes back what runs began to move into the folder that were killed meanwhile."""
        for staging in killed_stagings(self.folder):
            fresh, earlier = staging / FRESH, staging / EARLIER
            if (fresh / RECORD).exists():
                names = _undo(staging, self.folder)
                done = bool(names) and not any(path.is_file() for path in earlier.rglob("*"))
            else:  # all came, the record last, if anything did
                done = bool(_recorded(self.folder)) and not any(fresh.rglob("*.*"))
            if done:
                shutil.rmtree(staging, ignore_errors=True)
                _remove_empty(self.folder)

    def _require_free(self, names: Collection[str]) -> None:
        """Refuses to put a result in the place of anything that is there."""
        taken = sorted(name for name in names if os.path.lexists(self.folder / name))
        if taken:
            raise InputError(
                f"{self.folder} holds {taken[0]}, which no run of jaxsal wrote; it is not "
                "overwritten: choose another folder"
            )

    @property
    def _staging_folder(self) -> Path:
        assert self._staging is not None  # inside the block
        return self._staging

    @property
    def _fresh(self) -> Path:
        return self._staging_folder / FRESH

    def _make_folder(self) -> None:
        """Makes the folder and those it lies in, remembering which were not there."""
        folder = self.folder.absolute()
        missing = [path for path in (folder, *folder.parents) if not path.exists()]
        for path in reversed(missing):
            path.mkdir(exist_ok=True)
            self._made.append(path)
            sync_folder(path.parent)

    def _remove_made(self) -> None:
        """Removes the folders that this run made, as far as nothing is in them."""
        for path in reversed(self._made):
            with suppress(OSError):
                path.rmdir()

    def check(self) -> None:
        """Raises what entering the block does if the folder cannot take results; writes nothing."""
        if self.folder.exists() and not self.folder.is_dir():
            raise InputError(f"{self.folder} is a file; give a folder for the results")
        if not self.folder.is_dir() or not self._visible():
            return
        earlier = self._earlier()
        if not earlier:
            raise InputError(
                f"the output folder {self.folder} holds no results of jaxsal but other files; "
                "choose another folder"
            )
        foreign = sorted(self._present() - set(earlier))
        if foreign:
            raise InputError(
                f"{self.folder} holds files that no run of jaxsal wrote, or that were changed "
                f"since, such as {foreign[0]}; they are not overwritten: choose another folder"
            )
        if not self._overwrite:
            raise InputError(
                f"the output folder {self.folder} already holds results; choose another folder, or "
                "replace them with --overwrite (in Python: overwrite=True)"
            )

    def _visible(self) -> bool:
        """Whether there is more than what file managers, or a killed run, leave behind."""
        try:
            return any(not path.name.startswith(".") for path in self.folder.iterdir())
        except OSError as error:
            raise InputError(f"cannot read {self.folder}: {error.strerror}") from error

    def _present(self) -> set[str]:
        """The names that are jaxsal's, whoever wrote the files."""
        present = {name for name in _OURS if os.path.lexists(self.folder / name)}
        for name in _OUR_FOLDERS:
            folder = self.folder / name
            if folder.is_symlink() or folder.is_file():
                present.add(name)
            else:
                files = [p for p in folder.rglob("*") if p.is_symlink() or not p.is_dir()]
                present |= {path.relative_to(self.folder).as_posix() for path in files}
        return present

    def _earlier(self) -> list[str]:
        """The record of an earlier run, and after it the files as that run wrote them."""
        checksums = _recorded(self.folder)
        unchanged = [
            name
            for name in sorted(self._present() & set(checksums))
            if _is_unchanged(self.folder / name, checksums[name])
        ]
        return [RECORD, *unchanged] if checksums else []


def holds_results(folder: Path) -> bool:
    """Whether a run of jaxsal has written into a folder."""
    return bool(_recorded(folder))


def write_later(folder: Path, name: str, content: bytes) -> None:
    """Writes a file that is made of a folder's results, as one of which it is recorded then.

    It replaces the one that was written before in this way, and nothing else.

    Args:
        folder: with the results.
        name: of the file.
        content: of the file.

    Raises:
        InputError: there are no results, or there is another file of that name, or a changed one.
        OutputError: it cannot be written.
    """
    path, checksums = folder / name, _recorded(folder)
    if not checksums:
        raise InputError(f"{folder} holds no results of jaxsal; give the folder of a run")
    if os.path.lexists(path) and not _is_unchanged(path, checksums.get(name)):
        raise InputError(
            f"{path} was not written by jaxsal, or was changed since; it is not overwritten: move "
            "it elsewhere"
        )
    record = read_json(folder / RECORD)
    record["files"][name] = hashlib.sha256(content).hexdigest()
    with whole_file(path) as file:
        file.write(content)
        path.unlink(missing_ok=True)  # else a kill would leave one that the record does not know
        _write_record(folder / RECORD, record)


def _write_record(path: Path, record: dict[str, Any]) -> None:
    with whole_file(path) as file:
        file.write((json.dumps(record, indent=2) + "\n").encode())


def _is_unchanged(path: Path, checksum: str | None) -> bool:
    return path.is_file() and file_checksum(path) == checksum


def _recorded(folder: Path) -> dict[str, Any]:
    """Checksums by name from the record of an earlier run; empty if there is no such record.

    Names of anything but files inside the folder, which no run writes, are left out.
    """
    record = read_json(folder / RECORD)
    files = record.get("files") if {"jaxsal", "command"} <= record.keys() else None
    if not isinstance(files, dict):
        return {}
    return {name: checksum for name, checksum in files.items() if is_inside(folder, name)}


def _undo(staging: Path, folder: Path) -> list[str]:
    """Moves files back, of a run that was killed after it had moved some; returns their names.

    Only what is as that run wrote it is moved, and nothing is overwritten. A power cut may leave a
    file at both places: then the moved one goes, unless it is an earlier run's of equal content.
    """
    fresh, earlier = staging / FRESH, staging / EARLIER
    checksums = _recorded(fresh)
    before = {
        name
        for name in {**_recorded(folder), **_recorded(earlier)}
        if not os.path.lexists(earlier / name)
    }
    for name, checksum in checksums.items():
        path = folder / name
        if not is_inside(folder, name) or not path.is_file() or file_checksum(path) != checksum:
            continue
        if not os.path.lexists(fresh / name):
            (fresh / name).parent.mkdir(parents=True, exist_ok=True)
            os.replace(path, fresh / name)
        elif name not in before:
            path.unlink()
    if checksums:
        for path in [path for path in earlier.rglob("*") if path.is_file()]:
            name = path.relative_to(earlier).as_posix()
            if is_inside(folder, name) and not os.path.lexists(folder / name):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                os.replace(path, folder / name)
    return list(checksums)


def _remove_empty(folder: Path) -> None:
    for name in _OUR_FOLDERS:
        with suppress(OSError):  # not empty, or not there
            (folder / name).rmdir()


@contextmanager
def _moving(folder: Path) -> Iterator[Callable[[Path, Path], None]]:
    """Yields what moves a file; if the block raises, all go back to their places."""
    done: list[tuple[Path, Path]] = []

    def move(source: Path, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(source, target)
        done.append((source, target))

    try:
        yield move
    except BaseException:
        for source, target in reversed(done):
            with suppress(OSError):
                os.replace(target, source)
        _remove_empty(folder)
        raise
