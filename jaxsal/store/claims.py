"""Who may work on a scan, where several machines do: one run, and of it one attempt at a time.

Beside each scan's lock lies a note of who may hold it. A run signs it when it hands the scan out,
and takes the right back by clearing the note. An attempt signs a note of its own, by which an
earlier one learns that it was given up, such as one whose machine was believed dead. So whoever
computes ends soon after it has lost the right, even if nobody can reach it; and as only runs write
the one note and only attempts the other, no attempt can undo what a run does meanwhile.

A note is never removed: other machines may go on seeing a file that is gone, or go on missing one
that is there again, but they see at once that one has changed.
"""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep

from filelock import FileLock, Timeout

from jaxsal.errors import InputError
from jaxsal.store.files import content_of, whole_file


@dataclass(frozen=True)
class Patience:
    """How long to wait, in seconds.

    Attributes:
        look: between looks at a note.
        find: until a note is seen by other machines.
        end: until an earlier attempt has noticed that it lost the right.
    """

    look: float = 1.0
    find: float = 20.0
    end: float = 300.0


_USUAL = Patience()


class Withdrawn(Exception):  # noqa: N818
    """The right to work on a scan was taken back."""


def grant(lock: Path, run: str) -> None:
    """Gives a run the right to a scan, and takes it from any other.

    Args:
        lock: the scan's.
        run: the run's name, without spaces.
    """
    _write(_note(lock), run)


def withdraw(lock: Path) -> None:
    """Takes the right to a scan from whoever has it."""
    with suppress(FileNotFoundError):  # nobody was ever given it
        os.truncate(_note(lock), 0)  # which a full disk allows, unlike a new file


def take_back(locks: Iterable[Path], patience: Patience = _USUAL) -> None:
    """Takes the rights to scans from whoever has them, and waits until nobody works on them.

    Args:
        locks: the scans'.
        patience: how long to wait.

    Raises:
        InputError: whoever works on one of them does not notice.
    """
    given = [lock for lock in locks if _note(lock).exists()]
    for lock in given:
        withdraw(lock)
    end = monotonic() + patience.end
    for lock in given:
        try:
            # Who holds it later looks for the right before anything else, and has none.
            FileLock(lock).acquire(timeout=max(0.0, end - monotonic())).lock.release()
        except Timeout as error:
            raise InputError(
                f"a worker of an earlier run still works on {lock.stem} in {lock.parents[2]}; it "
                f"was asked to stop, and did not within {patience.end:g} s: end it, and run again"
            ) from error


def withdraw_all(folder: Path) -> None:
    """As `take_back`, of all scans whose locks are in this folder."""
    take_back(note.with_suffix(".lock") for note in folder.glob("*.note"))


class Claim:
    """An attempt's right to a scan.

    Args:
        lock: the scan's.
        run: the run that the attempt is made for.
        patience: how long to wait.

    Raises:
        InputError: nobody was ever given a right, as far as this machine sees after a while.
        Withdrawn: the run has none.
    """

    def __init__(self, lock: Path, run: str, patience: Patience = _USUAL) -> None:
        self._lock, self._run, self._patience = lock, run, patience
        self._looked = monotonic()
        self._mine = f"{run} {uuid.uuid4().hex}"
        given, end = _read(_note(lock)), monotonic() + patience.find
        while given is None and monotonic() < end:
            sleep(patience.look)
            given = _read(_note(lock))
        if given is None:
            raise InputError(
                f"{socket.gethostname()} does not find what the run wrote into {lock.parents[2]}: "
                "give a folder that all machines share, under the same path"
            )
        if given != run:
            raise Withdrawn
        _write(_attempt(lock), self._mine)

    def check(self, *, at_once: bool = False) -> None:
        """Looks whether the right is still there, if the last look was a while ago.

        Args:
            at_once: look in any case.

        Raises:
            Withdrawn: it is not.
        """
        now = monotonic()
        if not at_once and now - self._looked < self._patience.look:
            return
        self._looked = now
        for note, own in ((_note(self._lock), self._run), (_attempt(self._lock), self._mine)):
            if _read(note) not in (own, None):  # None: a moment's trouble of the network
                raise Withdrawn

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Holds the scan's lock within the block; waits for an earlier attempt to notice.

        The right was there when the lock was got, so that `take_back` need not hold it.

        Raises:
            Withdrawn: the right was taken back meanwhile.
            RuntimeError: the earlier attempt goes on.
        """
        lock, end = FileLock(self._lock), monotonic() + self._patience.end
        while not lock.is_locked:
            self.check()
            try:
                lock.acquire(timeout=self._patience.look)
            except Timeout as error:
                if monotonic() > end:
                    raise RuntimeError(
                        f"an earlier attempt still holds {self._lock}; it did not end within "
                        f"{self._patience.end:g} s"
                    ) from error
        try:
            self.check(at_once=True)
            yield
        finally:
            lock.release()


def _note(lock: Path) -> Path:
    return lock.with_suffix(".note")


def _attempt(lock: Path) -> Path:
    return lock.with_suffix(".attempt")


def _write(note: Path, text: str) -> None:
    with whole_file(note) as file:
        file.write(text.encode())


def _read(note: Path) -> str | None:
    try:
        return content_of(note).decode(errors="replace")
    except OSError:
        return None
