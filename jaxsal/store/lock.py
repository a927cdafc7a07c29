"""One run at a time in a folder, or one per shard of its scans.

The operating system releases a lock when its process ends, however that happens. Beside each lock
lies a note of who took it: whom to name to a second run, and whether the last one was killed.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from jaxsal.errors import InputError, require
from jaxsal.store.files import make_folder, read_json, remove_partial, write_json
from jaxsal.store.inside import require_no_links
from jaxsal.store.schema import settings_from

_SINCE = "since", "a time with its zone, as ISO 8601 has it"
_GATE = "gate.lock"
_PATIENCE = 120.0  # seconds that others may take to begin
# What file systems say that know no locks, such as NFS mounted without them.
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}


@dataclass(frozen=True)
class Shard:
    """Which part of a cohort's scans a run takes: number `part` of `parts`, from 1 on."""

    part: int = 1
    parts: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.part <= self.parts:
            raise InputError(
                f"a shard is the number of a part and how many there are, such as 1/8; got {self}"
            )

    def __str__(self) -> str:
        return f"{self.part}/{self.parts}"

    @property
    def _name(self) -> str:
        return f"{self.part}-of-{self.parts}"


WHOLE = Shard()


@dataclass(frozen=True)
class Owner:
    """Who runs, or ran: a process on a host.

    Attributes:
        host: its name.
        process: its number there.
        since: when it began, by that host's clock, as ISO 8601.
        noted: when it began, by the clock of the file system, in seconds; 0 if unknown. Only this
            can be compared with the times of files.
    """

    host: str
    process: int
    since: str
    noted: float = 0.0

    def __post_init__(self) -> None:
        try:
            require(datetime.fromisoformat(self.since).tzinfo is not None, *_SINCE, self.since)
        except ValueError as error:
            raise InputError(f"{_SINCE[0]} must be {_SINCE[1]}; got {self.since!r}") from error

    def __str__(self) -> str:
        return f"process {self.process} on {self.host}, since {self.since}"


@contextmanager
def locked(folder: Path, shard: Shard, begin: Callable[[bool], None]) -> Iterator[Owner | None]:
    """Holds the lock of a shard of the scans; shards of another division are locked out.

    Args:
        folder: of the locks.
        shard: of the scans.
        begin: called once the lock is held, while no other run can begin; with whether other shards
            are at work. If it raises, the lock is released.

    Yields:
        Who held it last, if that run was killed.

    Raises:
        InputError: another run holds it; or the file system knows no locks; or there are links in
            the hidden folder of the locks, through which files elsewhere could be changed.
    """
    require_no_links(folder.parent)
    make_folder(folder)
    lock = folder / f"{shard._name}.lock"
    note = folder / f"{shard._name}.json"
    with ExitStack() as held:
        try:
            with _holding(folder / _GATE, _PATIENCE):
                others = _others_at_work(folder, shard)
                try:
                    held.enter_context(_holding(lock, 0))
                except Timeout as error:
                    raise _in_use(folder, _owner(note)) from error
                killed = _owner(note)
                remove_partial(folder)  # whoever signs has the gate
                _sign(note)
                held.callback(note.unlink, missing_ok=True)
                begin(others)
        except Timeout as error:
            raise _in_use(folder, None) from error
        yield killed


@contextmanager
def exclusively(folder: Path, what: str) -> Iterator[None]:
    """Waits until no other run does the same thing."""
    with _holding(folder / f"{what}.lock"):
        yield


def owners(folder: Path) -> dict[str, Owner]:
    """Who runs now, by shard, such as "1/1".

    Runs that were killed are left out where the folder can be written; elsewhere it is not known.

    Raises:
        InputError: there are links among the locks.
    """
    require_no_links(folder)
    paths = sorted(folder.glob("*-of-*.lock"))
    noted = {path: owner for path in paths if (owner := _owner(path.with_suffix(".json")))}
    if noted and os.access(folder, os.W_OK):
        with _holding(folder / _GATE, _PATIENCE):
            noted = {path: owner for path, owner in noted.items() if _is_held(path)}
    return {path.stem.replace("-of-", "/"): owner for path, owner in noted.items()}


def _others_at_work(folder: Path, shard: Shard) -> bool:
    """Whether other shards are; refuses to work beside those of another division."""
    own = folder / f"{shard._name}.lock"
    held = [path for path in folder.glob("*-of-*.lock") if path != own and _is_held(path)]
    for path in held:
        if not path.stem.endswith(f"-of-{shard.parts}"):
            raise _in_use(folder, _owner(path.with_suffix(".json")))
    return bool(held)


def _is_held(path: Path) -> bool:
    try:
        with _holding(path, 0):
            return False
    except Timeout:
        return True


@contextmanager
def _holding(path: Path, patience: float = -1) -> Iterator[None]:
    """Holds a lock; waits for so many seconds at most, or for ever if they are negative.

    Raises:
        Timeout: another process holds it.
        InputError: the file system knows no locks.
    """
    lock = FileLock(path, timeout=patience)
    try:
        lock.acquire()
    except Timeout:
        raise
    except (NotImplementedError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in _NO_LOCKS:
            raise
        raise InputError(
            f"the file system of {path.parent} lets no file be locked ({error}), so that two runs "
            "could write there at once: choose a folder on another one, or have this one mounted "
            "with locks"
        ) from error
    try:
        yield
    finally:
        lock.release()


def _in_use(folder: Path, owner: Owner | None) -> InputError:
    return InputError(
        f"another run is working in {folder.parent.parent} ({owner or 'unknown'}); wait for it or "
        "stop it, or choose another folder"
    )


def _sign(note: Path) -> None:
    now = datetime.now().astimezone().isoformat(timespec="seconds")
    write_json(note, {"host": socket.gethostname(), "process": os.getpid(), "since": now})


def _owner(note: Path) -> Owner | None:
    try:
        owner = settings_from(Owner, read_json(note), "the note")
        return replace(owner, noted=note.stat().st_mtime)
    except (InputError, OSError):  # there is no note, or a damaged one
        return None
