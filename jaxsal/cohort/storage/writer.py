"""Threads that write while the device computes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")
WRITERS_PER_LANE = 2


class AtOnce:
    """Writes what it is handed before it goes on."""

    def submit(self, write: Callable[..., T], *arguments: Any) -> Future[T]:
        """Calls this."""
        future: Future[T] = Future()
        future.set_result(write(*arguments))
        return future

    def close(self) -> None:
        """Does nothing: all is written."""


class Writer(AtOnce):
    """Writes in threads; a caller that hands over more than they can write soon waits.

    Args:
        threads: how many.
    """

    def __init__(self, threads: int) -> None:
        self._pool = ThreadPoolExecutor(threads, "writer")
        self._slots = threading.Semaphore(2 * threads + 2)

    def submit(self, write: Callable[..., T], *arguments: Any) -> Future[T]:
        """Lets a thread call this; calls begin in the order in which they were handed over."""
        self._slots.acquire()
        future = self._pool.submit(write, *arguments)
        future.add_done_callback(lambda _: self._slots.release())
        return future

    def close(self) -> None:
        """Waits until all is written."""
        self._pool.shutdown()
