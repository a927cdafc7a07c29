"""Many scans through one machine: read ahead, compute on every device, write behind.

Each lane is a thread with devices of its own. While it computes a scan, other threads read the next
ones and write the last one's results, so that the devices need not wait. A lane whose device is
lost leaves its scan to the others.
"""

from __future__ import annotations

import threading
import traceback
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from queue import Empty, SimpleQueue
from time import perf_counter
from typing import Protocol

import jax

from jaxsal.cohort.job import Clock, Job, Keeper, explain_scan
from jaxsal.cohort.storage.in_memory import Maps
from jaxsal.devices import computes, computing_with
from jaxsal.errors import InputError, OutputError
from jaxsal.inputs.entries import Entry
from jaxsal.inputs.read_ahead import ReadAhead
from jaxsal.inputs.scan import LoadedScan, load_scan
from jaxsal.progress import Progress
from jaxsal.store.records import Inputs, ScanRecord, stamps

_POLL_SECONDS = 0.2  # between looks for a signal, which only the main thread is given
_SCANS_PER_LANE = 3  # begun at most: one is computed, one written, one looked at by the consumer


class _DeviceLost(Exception):  # noqa: N818
    """A device computes no more, in this process at least; the cause tells why."""


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


@dataclass(frozen=True)
class _Ended:
    """A lane has ended; `lost` if its device was."""

    lost: _DeviceLost | None


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
    _outcomes: SimpleQueue[Outcome | _Ended] = field(default_factory=SimpleQueue)
    _left: set[str] = field(default_factory=set)  # scans on which a device was lost, by stem
    _slots: threading.Semaphore = field(init=False)  # one for each scan that is begun

    def __post_init__(self) -> None:
        self._slots = threading.Semaphore(_SCANS_PER_LANE * len(self.lanes))

    def run(self, entries: Sequence[Entry]) -> Generator[Outcome]:
        """Explains these scans; yields what becomes of each, in the order in which they end.

        While nobody asks for what became of scans, no more than a few are begun: they take memory.
        When the iterator is closed, or an exception is raised in it, lanes stop after the batch
        that they are computing, and what is handed over is still written.
        """
        reader = ReadAhead(partial(load, self.job), entries, len(self.lanes))
        threads = [
            threading.Thread(target=self._lane, args=(devices, reader), name=f"lane-{index}")
            for index, devices in enumerate(self.lanes)
        ]
        for thread in threads:
            thread.start()
        try:
            yield from self._until(len(threads), reader)
        finally:
            self._end(reader)
            for thread in threads:
                thread.join()
            reader.close()

    def _until(self, lanes: int, reader: ReadAhead[Loaded]) -> Iterator[Outcome]:
        given = 0
        while lanes or given < reader.taken:
            try:
                outcome = self._outcomes.get(timeout=_POLL_SECONDS)
            except Empty:
                continue
            if isinstance(outcome, _Ended):
                lanes -= 1
                self._see(outcome.lost, lanes, reader)
                continue
            given += 1
            if outcome.fatal is not None:
                self._end(reader)
            yield outcome
            del outcome  # its maps are the consumer's
            self._slots.release()

    def _see(self, lost: _DeviceLost | None, lanes: int, reader: ReadAhead[Loaded]) -> None:
        """Tells of a lost device; raises if there is no other for the scans that are left."""
        if lost is not None:
            warnings.warn(str(lost), stacklevel=2)
        if lost is not None and not (lanes or reader.is_exhausted or self._stop.is_set()):
            raise OSError(
                f"{lost}; no other is left. What is finished stays: the same run, begun anew, goes "
                "on with the rest"
            ) from lost

    def _end(self, reader: ReadAhead[Loaded]) -> None:
        self._stop.set()
        self._slots.release(len(self.lanes))  # for lanes that wait for one
        reader.end()

    def _lane(self, devices: Sequence[jax.Device], reader: ReadAhead[Loaded]) -> None:
        clock, began = Clock(), perf_counter()
        ended, lost = began, None
        try:
            with computing_with(devices):
                while self._next(devices, reader, clock):
                    ended = perf_counter()
        except _DeviceLost as error:
            lost = error
        finally:
            with self._lock:
                self.busy_seconds += clock.seconds
                self.lane_seconds += ended - began
            self._outcomes.put(_Ended(lost))

    def _next(self, devices: Sequence[jax.Device], reader: ReadAhead[Loaded], clock: Clock) -> bool:
        """Explains a scan; false if there is none, or none is to be begun."""
        self._slots.acquire()
        taken = None if self._stop.is_set() else reader.take()
        if taken is None:
            self._slots.release()
            return False
        try:
            self._explain(*taken, clock, devices)
        except _DeviceLost as lost:
            self._leave(*taken, reader, lost)
            raise
        finally:
            reader.done()
        return True

    def _leave(
        self,
        entry: Entry,
        loading: Future[Loaded],
        reader: ReadAhead[Loaded],
        lost: _DeviceLost,
    ) -> None:
        """Leaves a scan to another lane, unless a second device was lost on it."""
        with self._lock:
            is_second = entry.stem in self._left
            self._left.add(entry.stem)
        if is_second:
            self._fail(entry, loading.result()[0], lost.__cause__ or lost)
        else:
            reader.give_back(entry, loading)
            self._slots.release()

    def _explain(
        self, entry: Entry, loading: Future[Loaded], clock: Clock, devices: Sequence[jax.Device]
    ) -> None:
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
            _require_devices(devices, error)
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


def _require_devices(devices: Sequence[jax.Device], error: BaseException) -> None:
    """Looks whether an error is the devices' rather than the scan's.

    Raises:
        _DeviceLost: one of them computes nothing any more.
    """
    if isinstance(error, InputError | OSError):
        return
    for device in devices:
        if not computes(device):
            raise _DeviceLost(f"{device} computes no more ({error})") from error


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
