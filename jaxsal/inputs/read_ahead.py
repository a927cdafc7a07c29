"""Scans are read by threads before they are asked for."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from typing import Generic, TypeVar

from jaxsal.errors import InputError
from jaxsal.inputs.entries import Entry

L = TypeVar("L")
T = TypeVar("T")
_BAD_SCAN = (InputError, OSError, MemoryError, RuntimeError)  # XLA raises the last without memory


class ReadAhead(Generic[T]):
    """Reads scans ahead, for one or several threads that take them; iterate over it, or `take`.

    Args:
        load: reads a scan.
        entries: the scans.
        readers: how many are read at once; one more is kept ready.

    Attributes:
        taken: how many scans were taken and not given back.
    """

    def __init__(
        self, load: Callable[[Entry], T], entries: Sequence[Entry], readers: int = 1
    ) -> None:
        self._load, self._left = load, deque(entries)
        self._ahead: deque[tuple[Entry, Future[T]]] = deque()
        self._depth = readers + 1
        self._pool = ThreadPoolExecutor(readers, "reader")
        self._changed = threading.Condition()
        self._in_work, self._is_ending = 0, False
        self.taken = 0

    @property
    def is_exhausted(self) -> bool:
        """Whether all scans are taken."""
        return not self._ahead and not self._left

    def __iter__(self) -> Iterator[tuple[Entry, Future[T]]]:
        while (scan := self.take()) is not None:
            yield scan
            self.done()

    def take(self) -> tuple[Entry, Future[T]] | None:
        """The next scan; None after the last one, and after `end`.

        Call `done` for each. While others work on the last scans this waits, since
        these may be given back.
        """
        with self._changed:
            self._changed.wait_for(
                lambda: self._is_ending or not self.is_exhausted or not self._in_work
            )
            if self._is_ending:
                return None
            while self._left and len(self._ahead) < self._depth:
                entry = self._left.popleft()
                self._ahead.append((entry, self._pool.submit(self._load, entry)))
            if not self._ahead:
                return None
            self.taken += 1
            self._in_work += 1
            return self._ahead.popleft()

    def give_back(self, entry: Entry, loading: Future[T]) -> None:
        """Leaves a scan to another thread; call `done` afterwards."""
        with self._changed:
            self._ahead.appendleft((entry, loading))
            self.taken -= 1

    def done(self) -> None:
        """Ends the work on a scan that was taken."""
        with self._changed:
            self._in_work -= 1
            self._changed.notify_all()

    def end(self) -> None:
        """Lets `take` return None from now on."""
        with self._changed:
            self._is_ending = True
            self._changed.notify_all()

    def close(self) -> None:
        """Waits for what is being read, and reads no further."""
        self._pool.shutdown(cancel_futures=True)


def one_by_one(
    entries: Sequence[Entry], load: Callable[[Entry], L], work: Callable[[Entry, L], T]
) -> Iterator[tuple[Entry, T | None, str]]:
    """Works with every scan; the next one is read meanwhile.

    Args:
        entries: the scans.
        load: reads a scan.
        work: called with a scan and what was read.

    Yields:
        Each scan in turn, with the result of `work` and "". Where a scan cannot be read or `work`
        fails for it: None, and the reason.

    Raises:
        OutputError: results cannot be written.
    """
    with closing(ReadAhead(load, entries)) as scans:
        for entry, reading in scans:
            try:
                made = work(entry, reading.result())
            except _BAD_SCAN as error:
                yield entry, None, _reason(error)
            else:
                yield entry, made, ""


def _reason(error: BaseException) -> str:
    if isinstance(error, InputError | OSError):
        return str(error)
    return f"{type(error).__name__}: {error}".rstrip(": ")
