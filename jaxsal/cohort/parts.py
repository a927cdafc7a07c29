"""The parts of a run over a cohort, and what they hand to each other.

`jaxsal.cohort.run.run_cohort` composes them: a job says what is done with every scan, machines
compute, and keepers take the results, with threads that write while the device computes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import numpy as np

    from jaxsal.grid import Grid
    from jaxsal.inputs.entries import Entry
    from jaxsal.progress import Progress
    from jaxsal.saliency.maps import Crop
    from jaxsal.store.records import ScanRecord

OnScan = Callable[["Entry", "Progress"], None]
"""Called with a scan and how far it is, from the threads that compute."""
T = TypeVar("T")
WRITERS_PER_LANE = 2


class Stopped(Exception):  # noqa: N818
    """The run is to end; what is unfinished is left as it is."""


@dataclass(frozen=True)
class Portion:
    """Lesions of a scan whose maps are computed and recorded together.

    Attributes:
        number: its place among the scan's portions.
        method: index of the method.
        labels: of the lesions.
    """

    number: int
    method: int
    labels: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Maps:
    """The maps of a scan, kept in memory.

    Attributes:
        grid: of the maps: that of the scan's files or, where the scan was resampled for the
            network, the network's in the same axes.
        labels: (X, Y, Z) int32, the lesions, there.
        crops: the maps by method, such as "smoothgrad-max", and label.
    """

    grid: Grid
    labels: np.ndarray
    crops: dict[str, dict[int, Crop]]


@dataclass(frozen=True)
class ScanOutcome:
    """The end of the work on a scan.

    Attributes:
        entry: the scan.
        maps: the scan's, if they are kept in memory.
        record: of its results or its failure; None if the run was stopped before its end.
        fatal: the error for which no further scan can be done; None if there is none.
    """

    entry: Entry
    maps: Maps | None = None
    record: ScanRecord | None = None
    fatal: BaseException | None = None


class Clock:
    """Adds up the seconds of the blocks that it is the context of."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __enter__(self) -> None:
        self._began = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.seconds += time.perf_counter() - self._began


class AtOnce:
    """Writes what it is handed before it goes on."""

    def submit(self, write: Callable[..., T], *arguments: Any) -> Future[T]:
        """Calls this."""
        future: Future[T] = Future()
        future.set_result(write(*arguments))
        return future


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
