"""Scans are read before the lanes ask for them, and shared out between these."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

from jaxsal.inputs.entries import Entry

T = TypeVar("T")


class ReadAhead(Generic[T]):
    """Reads scans before they are asked for.

    Args:
        load: reads a scan.
        entries: the scans.
        lanes: how many take from it.

    Attributes:
        taken: how many scans were taken, and not given back.
    """

    def __init__(self, load: Callable[[Entry], T], entries: Sequence[Entry], lanes: int) -> None:
        self._load, self._left = load, deque(entries)
        self._ahead: deque[tuple[Entry, Future[T]]] = deque()
        self._depth = lanes + 1
        self._pool = ThreadPoolExecutor(lanes, "reader")
        self._changed = threading.Condition()
        self._computed, self._is_ending = 0, False
        self.taken = 0

    @property
    def is_exhausted(self) -> bool:
        """Whether all scans are taken."""
        return not self._ahead and not self._left

    def take(self) -> tuple[Entry, Future[T]] | None:
        """The next scan, of which `done` is to tell; None if there is none, nor will be.

        Waits while the last ones are computed, since these may be given back.
        """
        with self._changed:
            self._changed.wait_for(
                lambda: self._is_ending or not self.is_exhausted or not self._computed
            )
            if self._is_ending:
                return None
            while self._left and len(self._ahead) < self._depth:
                entry = self._left.popleft()
                self._ahead.append((entry, self._pool.submit(self._load, entry)))
            if not self._ahead:
                return None
            self.taken += 1
            self._computed += 1
            return self._ahead.popleft()

    def give_back(self, entry: Entry, loading: Future[T]) -> None:
        """Leaves a scan to another lane; to be called before `done`."""
        with self._changed:
            self._ahead.appendleft((entry, loading))
            self.taken -= 1

    def done(self) -> None:
        """A scan that was taken is not computed any more."""
        with self._changed:
            self._computed -= 1
            self._changed.notify_all()

    def end(self) -> None:
        """There is no further scan for those who take."""
        with self._changed:
            self._is_ending = True
            self._changed.notify_all()

    def close(self) -> None:
        """Reads no further."""
        self._pool.shutdown(cancel_futures=True)
