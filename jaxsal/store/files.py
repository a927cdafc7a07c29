"""Files and folders that appear whole or not at all, and files whose content is elsewhere."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from secrets import token_hex
from typing import IO, Any

from jaxsal.errors import InputError, OutputError
from jaxsal.store.parsing import parsed_json
from jaxsal.store.process import host, lives

# How files begin that stand for content which git-annex, or git-lfs, has not fetched yet.
_POINTERS = {b"/annex/objects/": "git-annex", b"version https://git-lfs.": "git-lfs"}
_FETCH = {
    "git-annex": "get it with `datalad get {0}` or `git annex get {0}`",
    "git-lfs": "get it with `git lfs pull --include {0}`",
}
_PARTIAL = re.compile(r"\..+\.\d+-[0-9a-f]+\.part")  # see `whole_file`
_PREVIOUS = ".previous"
# What systems say that cannot write a folder's names to the disk.
_CANNOT = {
    *(errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EBADF),
    *(errno.EACCES, errno.EPERM, errno.EISDIR),
}


def require_content(path: str | os.PathLike[str]) -> None:
    """Raises InputError if reading a path would wait, or find nothing of what its name promises.

    Devices and pipes are refused, as they may never end. Data sets of git-annex (DataLad) have a
    link in place of every file that was not fetched, or, as those of git-lfs, a short text. Any
    other path is accepted, whether something is there or not.
    """
    path = Path(path)
    if "\0" in str(path):
        raise InputError(f"{str(path)!r} is no name of a file: it holds NUL")
    for link in (path, *path.parents):
        if link.is_symlink() and not link.exists():
            target = os.readlink(link)
            annexed = "annex/objects" in Path(target).as_posix()
            advice = _FETCH["git-annex"].format(link)
            raise InputError(
                f"{link} is a link without content: it leads to {target}, which is not here; "
                + (f"{advice}." if annexed else f"mend it, or, in a DataLad data set, {advice}.")
            )
    if path.exists() and not path.is_file() and not path.is_dir():
        raise InputError(f"{path} is a device or a pipe: give a regular file")
    with suppress(OSError), path.open("rb") as file:
        begin = file.read(max(map(len, _POINTERS)))
        for pointer, program in _POINTERS.items():
            if begin.startswith(pointer):
                raise InputError(
                    f"{path} is a pointer of {program} without content: "
                    f"{_FETCH[program].format(path)}."
                )


@contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """Open a binary file that appears under its name only when the block ends without an error.

    Raises:
        OutputError: if the file cannot be written; an existing one is then unchanged.
    """
    path = Path(path)
    # Hosts may share the folder.
    partial = path.with_name(f".{path.name}.{os.getpid()}-{token_hex(4)}.part")
    try:
        with open(partial, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
        sync_folder(path.parent)
    except OSError as error:
        reason = error.strerror or error
        raise OutputError(
            f"Cannot write {path}: {reason}. Check folder, rights and space."
        ) from error
    finally:
        with suppress(OSError):
            partial.unlink()


def remove_partial(folder: Path) -> None:
    """Removes what writers of `whole_file` that were killed left half-written in a folder."""
    for path in folder.glob(".*.part"):
        if _PARTIAL.fullmatch(path.name):
            path.unlink(missing_ok=True)


def write_json(path: Path, content: Any) -> None:
    """Writes JSON, whole or not at all."""
    with whole_file(path) as file:
        file.write((json.dumps(content, indent=1) + "\n").encode())


def read_json(path: Path) -> dict[str, Any]:
    """The object that a JSON file holds; empty if it is not there, or holds anything else."""
    try:
        content = parsed_json(content_of(path))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def read_object(path: Path) -> dict[str, Any]:
    """The object that a JSON file holds.

    Raises:
        InputError: the file cannot be read, is no JSON, or holds anything else.
    """
    require_content(path)
    try:
        content = parsed_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} must hold a JSON object, it holds a {type(content).__name__}")
    return content


def content_of(path: Path) -> bytes:
    """The bytes of a file.

    Raises:
        OSError: it cannot be read, or is a device or a pipe, which might never end.
    """
    _require_regular(path)
    return path.read_bytes()


def _require_regular(path: Path) -> None:
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "no regular file", str(path))


def sync_folder(folder: Path) -> None:
    """Has the names in a folder written to the disk; not every system can.

    Raises:
        OSError: the disk fails.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in _CANNOT:
            raise


def sync_all(folder: Path) -> None:
    """Has a folder with all that is in it written to the disk; see `sync_folder`.

    Raises:
        OSError: the disk fails.
    """
    for path in folder.rglob("*"):
        sync_folder(path)  # or file
    sync_folder(folder)


def make_folder(folder: Path) -> None:
    """Makes a folder and those that it lies in, which stay whatever happens; see `sync_folder`.

    Raises:
        OSError: it cannot be made.
    """
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in missing:
        sync_folder(path.parent)


def sync_folders(root: Path, names: Iterable[str]) -> None:
    """Has files that were moved to these names stay there, whatever happens.

    Their folders are written to the disk, and those that these lie in, up to the root.

    Raises:
        OSError: the disk fails.
    """
    folders = {root / folder for name in names for folder in PurePosixPath(name).parents}
    for folder in sorted(folders):
        sync_folder(folder)


def file_checksum(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file's content, in hexadecimal.

    Raises:
        OSError: it cannot be read, or is a device or a pipe, which might never end.
    """
    _require_regular(Path(path))
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Has a folder appear, or replaced as a whole, when the block ends without an error.

    Args:
        folder: the folder.

    Yields:
        A hidden folder beside it, to be filled.

    Raises:
        OSError: it cannot be written; an earlier one is then unchanged.
    """
    mend_folder(folder, of_killed=True)
    partial = folder.with_name(f".{folder.name}.{os.getpid()}@{host()}.{uuid.uuid4().hex}")
    try:
        make_folder(partial)
        yield partial
        sync_all(partial)
        _move_into_place(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _move_into_place(partial: Path, folder: Path) -> None:
    """Renames ``partial`` to ``folder``; what was there is put back if that fails."""
    previous = partial.with_name(partial.name + _PREVIOUS)
    existed = folder.exists()
    if existed:
        folder.rename(previous)
    try:
        partial.rename(folder)
    except BaseException:
        if existed:
            previous.rename(folder)
        raise
    sync_folder(folder.parent)  # before what may come back is removed
    shutil.rmtree(previous, ignore_errors=True)


def mend_folder(folder: Path, *, of_killed: bool = False) -> None:
    """Puts back a folder that a kill caught between two names; removes half-written ones.

    Args:
        folder: what was being written.
        of_killed: leave alone what processes write that live, or are another host's. Without it
            nobody else may be writing the folder.
    """
    hidden = re.compile(
        rf"\.{re.escape(folder.name)}\.((?P<process>\d+)@(?P<host>.+)\.)?"
        rf"[0-9a-f]{{32}}({re.escape(_PREVIOUS)})?"
    )
    if not folder.parent.is_dir():
        return
    found = [(path, hidden.fullmatch(path.name)) for path in folder.parent.iterdir()]
    for path, name in found:
        if name is None or (of_killed and not _is_of_killed(name)):
            continue
        if path.name.endswith(_PREVIOUS) and not folder.exists():
            path.rename(folder)
        else:
            shutil.rmtree(path, ignore_errors=True)


def _is_of_killed(name: re.Match[str]) -> bool:
    if name["host"] != host():
        return False
    return not lives(int(name["process"]))
