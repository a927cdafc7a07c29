"""Many scans through one machine: read ahead, compute on every device, write behind.

Each lane is a thread with devices of its own. While it computes a scan, other threads read the next
ones and write the last one's results, so that the devices need not wait.
"""

from __future__ import annotations

import threading
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from queue import Empty, SimpleQueue
from time import perf_counter
from typing import Protocol

import jax

from jaxsal.cohort.entries import Entry
from jaxsal.cohort.job import Clock, Job, Keeper, explain_scan
from jaxsal.cohort.storage.memory import Maps
from jaxsal.cohort.storage.records import Inputs, ScanRecord, stamps
from jaxsal.devices import computing_with
from jaxsal.errors import InputError, OutputError
from jaxsal.saliency.progress import Progress
from jaxsal.scan.loading import LoadedScan, load_scan

_POLL_SECONDS = 0.2  # between looks for a signal, which only the main thread is given
_SCANS_PER_LANE = 3  # begun at most: one is computed, one written, one looked at by the consumer


class Stopped(Exception):  # noqa: N818
    """The run is to end; what is unfinished is left as it is."""


class FinishingKeeper(Keeper, Protocol):
    """A keeper that can tell when all is kept."""

    @property
    def maps(self) -> Maps | None:
        """The maps, if they are kept in memory."""
        ...

    def finish(self, seconds: float) -> Future[ScanRecord]:
        """Makes the results appear; all portions were handed over."""
        ...


KeeperOf = Callable[[Entry, Inputs], FinishingKeeper]
OnScan = Callable[[Entry, Progress], None]


@dataclass(frozen=True)
class Outcome:
    """What became of a scan.

    Attributes:
        entry: the scan.
        maps: the scan's, if they are kept in memory.
        record: of its results or its failure; None if the run was stopped before its end.
        fatal: why no further scan can be done.
    """

    entry: Entry
    maps: Maps | None = None
    record: ScanRecord | None = None
    fatal: BaseException | None = None


def lanes_of(devices: Sequence[jax.Device]) -> list[tuple[jax.Device, ...]]:
    """The devices by scan: each accelerator computes one of its own, the CPU's cores one together.

    Cores share a memory, which one scan may fill; and nothing is saved by computing several.
    """
    if devices[0].platform == "cpu":
        return [tuple(devices)]
    return [(device,) for device in devices]


@dataclass
class Pipeline:
    """See the module; `run` it once.

    Attributes:
        job: what is done with each scan.
        lanes: the devices of each lane.
        keeper_of: makes what keeps a scan's results.
        on_scan: told how far a scan is.
        busy_seconds: that lanes have computed so far.
        lane_seconds: that they have existed.
    """

    job: Job
    lanes: Sequence[Sequence[jax.Device]]
    keeper_of: KeeperOf
    on_scan: OnScan = lambda entry, progress: None
    busy_seconds: float = 0.0
    lane_seconds: float = 0.0
    _stop: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _outcomes: SimpleQueue[Outcome | None] = field(default_factory=SimpleQueue)
    _slots: threading.Semaphore = field(init=False)  # one for each scan that is begun

    def __post_init__(self) -> None:
        self._slots = threading.Semaphore(_SCANS_PER_LANE * len(self.lanes))

    def run(self, entries: Sequence[Entry]) -> Generator[Outcome]:
        """Explains these scans; yields what becomes of each, in the order in which they end.

        While nobody asks for what became of scans, no more than a few are begun: they take memory.
        When the iterator is closed, or an exception is raised in it, lanes stop after the batch
        that they are computing, and what is handed over is still written.
        """
        reader = ReadAhead(self.job, entries, len(self.lanes))
        threads = [
            threading.Thread(target=self._lane, args=(devices, reader), name=f"lane-{index}")
            for index, devices in enumerate(self.lanes)
        ]
        for thread in threads:
            thread.start()
        try:
            yield from self._until(len(threads), reader)
        finally:
            self._end()
            for thread in threads:
                thread.join()
            reader.close()

    def _until(self, lanes: int, reader: ReadAhead) -> Iterator[Outcome]:
        given = 0
        while lanes or given < reader.taken:
            try:
                outcome = self._outcomes.get(timeout=_POLL_SECONDS)
            except Empty:
                continue
            if outcome is None:
                lanes -= 1
                continue
            given += 1
            if outcome.fatal is not None:
                self._end()
            yield outcome
            del outcome  # its maps are the consumer's
            self._slots.release()

    def _end(self) -> None:
        self._stop.set()
        self._slots.release(len(self.lanes))  # for lanes that wait for one

    def _lane(self, devices: Sequence[jax.Device], reader: ReadAhead) -> None:
        clock, began = Clock(), perf_counter()
        try:
            with computing_with(devices):
                while self._next(reader, clock):
                    pass
        finally:
            with self._lock:
                self.busy_seconds += clock.seconds
                self.lane_seconds += perf_counter() - began
            self._outcomes.put(None)

    def _next(self, reader: ReadAhead, clock: Clock) -> bool:
        """Explains a scan; false if there is none, or none is to be begun."""
        self._slots.acquire()
        taken = None if self._stop.is_set() else reader.take()
        if taken is None:
            self._slots.release()
            return False
        self._explain(*taken, clock)
        return True

    def _explain(self, entry: Entry, loading: Future[Loaded], clock: Clock) -> None:
        inputs: Inputs = {}
        before = clock.seconds
        try:
            inputs, loaded = loading.result()
            if isinstance(loaded, Exception):
                raise loaded
            keeper = self.keeper_of(entry, inputs)
            explain_scan(self.job, loaded, keeper, clock, partial(self._advance, entry))
        except Stopped:
            self._outcomes.put(Outcome(entry))
        except BaseException as error:
            self._fail(entry, inputs, error)
        else:
            kept = keeper.finish(clock.seconds - before)
            kept.add_done_callback(partial(self._kept, entry, keeper, inputs))

    def _kept(
        self, entry: Entry, keeper: FinishingKeeper, inputs: Inputs, kept: Future[ScanRecord]
    ) -> None:
        error = kept.exception()
        if error is None:
            self._outcomes.put(Outcome(entry, keeper.maps, kept.result()))
        else:
            self._fail(entry, inputs, error)

    def _fail(self, entry: Entry, inputs: Inputs, error: BaseException) -> None:
        try:
            outcome = Outcome(entry, record=failure(self.job, entry, inputs, error))
        except Exception as fatal:
            outcome = Outcome(entry, fatal=fatal)
        self._outcomes.put(outcome)

    def _advance(self, entry: Entry, progress: Progress) -> None:
        if self._stop.is_set():
            raise Stopped
        self.on_scan(entry, progress)


def failure(job: Job, entry: Entry, inputs: Inputs, error: BaseException) -> ScanRecord:
    """The record of a bad scan.

    Raises:
        OSError, OutputError: the error is that results cannot be written, of no scan.
    """
    if isinstance(error, OSError | OutputError):
        raise error
    if isinstance(error, InputError):
        reason, ran = str(error), job.ran
    else:
        reason = f"{type(error).__name__}: {error}"
        ran = {**job.ran, "traceback": "".join(traceback.format_exception(error))}
    return ScanRecord(entry.id, entry.stem, "failed", inputs, reason=reason, ran=ran)


Loaded = tuple[Inputs, LoadedScan | Exception]


def load(job: Job, entry: Entry) -> Loaded:
    """A scan's files as they are, and what they hold or why they cannot be worked with."""
    inputs = stamps(entry.scan, job.model.channels)
    try:
        return inputs, load_scan(entry.scan, job.model)
    except OSError as error:
        return inputs, InputError(f"the scan's files cannot be read: {error}")
    except Exception as error:
        return inputs, error


class ReadAhead:
    """Reads scans before they are asked for.

    Args:
        job: whose model tells how to read them.
        entries: the scans.
        lanes: how many take from it.
    """

    def __init__(self, job: Job, entries: Sequence[Entry], lanes: int) -> None:
        self._job, self._left = job, deque(entries)
        self._ahead: deque[tuple[Entry, Future[Loaded]]] = deque()
        self._depth = lanes + 1
        self._pool = ThreadPoolExecutor(lanes, "reader")
        self._lock = threading.Lock()
        self.taken = 0

    def take(self) -> tuple[Entry, Future[Loaded]] | None:
        """The next scan; None if there is none."""
        with self._lock:
            while self._left and len(self._ahead) < self._depth:
                entry = self._left.popleft()
                self._ahead.append((entry, self._pool.submit(load, self._job, entry)))
            if not self._ahead:
                return None
            self.taken += 1
            return self._ahead.popleft()

    def close(self) -> None:
        """Reads no further."""
        self._pool.shutdown(cancel_futures=True)
