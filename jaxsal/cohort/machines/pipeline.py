"""Many scans through one machine: read ahead, compute on every device, write behind.

Each lane is a thread with devices of its own. While it computes a scan, other threads read the next
ones and write the results of the last one, so that the devices need not wait. A lane whose device
fails leaves its scan to the others.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from queue import Empty, SimpleQueue
from time import perf_counter
from typing import TYPE_CHECKING

import jax

from jaxsal.cohort.parts import Clock, OnScan, ScanOutcome, Stopped
from jaxsal.devices import computes, computing_with
from jaxsal.errors import JaxsalError, warn
from jaxsal.inputs.entries import Entry
from jaxsal.inputs.read_ahead import ReadAhead
from jaxsal.progress import Progress
from jaxsal.store.records import Inputs, ScanRecord

if TYPE_CHECKING:
    from jaxsal.cohort.job import CohortJob, Loaded
    from jaxsal.cohort.storage.keepers import Keeper

_POLL_SECONDS = 0.2  # between looks for a signal, which only the main thread is given
_SCANS_PER_LANE = 3  # begun at most: one is computed, one written, one looked at by the consumer


class _DeviceLost(Exception):  # noqa: N818
    """A device computes no more, at least in this process; the cause is the device's error."""


def lanes_of(devices: Sequence[jax.Device]) -> list[tuple[jax.Device, ...]]:
    """The devices of each lane: an accelerator by itself, or all cores of the CPU together.

    Cores share one memory, which a single scan may fill; and several scans at once save no time.
    """
    if devices[0].platform == "cpu":
        return [tuple(devices)]
    return [(device,) for device in devices]


@dataclass
class Pipeline:
    """Puts many scans through the lanes of one machine; `run` it once.

    Attributes:
        job: what is done with each scan.
        lanes: the devices of each lane.
        keeper_of: makes the keeper of a scan's results.
        on_scan: called with how far a scan is.
        busy_seconds: that lanes have computed so far.
        lane_seconds: that they have existed.
    """

    job: CohortJob
    lanes: Sequence[Sequence[jax.Device]]
    keeper_of: Callable[[Entry, Inputs], Keeper]
    on_scan: OnScan = lambda entry, progress: None
    busy_seconds: float = 0.0
    lane_seconds: float = 0.0
    _stop: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    # Ends of lanes, too, with the reason if a device was lost.
    _outcomes: SimpleQueue[ScanOutcome | _DeviceLost | None] = field(default_factory=SimpleQueue)
    _left: set[str] = field(default_factory=set)  # scans on which a device was lost, by stem
    _slots: threading.Semaphore = field(init=False)  # one for each scan that is begun

    def __post_init__(self) -> None:
        self._slots = threading.Semaphore(_SCANS_PER_LANE * len(self.lanes))

    def run(self, entries: Sequence[Entry]) -> Generator[ScanOutcome]:
        """Explains these scans; yields the outcome of each, in the order in which they end.

        Only a few scans are begun before their outcomes are asked for, since they take memory. When
        the iterator is closed, or an exception is raised in it, lanes stop after the batch that
        they are computing, and the results that they handed over are still written.
        """
        reader = ReadAhead(self.job.load, entries, len(self.lanes))
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

    def _until(self, lanes: int, reader: ReadAhead[Loaded]) -> Iterator[ScanOutcome]:
        given = 0
        while lanes or given < reader.taken:
            try:
                outcome = self._outcomes.get(timeout=_POLL_SECONDS)
            except Empty:
                continue
            if not isinstance(outcome, ScanOutcome):
                lanes -= 1
                self._see(outcome, lanes, reader)
                continue
            given += 1
            if outcome.fatal is not None:
                self._end(reader)
            yield outcome
            del outcome  # its maps are the consumer's
            self._slots.release()

    def _see(self, lost: _DeviceLost | None, lanes: int, reader: ReadAhead[Loaded]) -> None:
        """Warns of a lost device; raises if there is no other for the scans that are left."""
        if lost is not None:
            warn(str(lost))
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
            self._outcomes.put(lost)

    def _next(self, devices: Sequence[jax.Device], reader: ReadAhead[Loaded], clock: Clock) -> bool:
        """Explains a scan; False if there is none, or the run is to end."""
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
            self.job.explain(loaded, keeper, clock, partial(self._advance, entry))
        except Stopped:
            self._outcomes.put(ScanOutcome(entry))
        except BaseException as error:
            _require_devices(devices, error)
            self._fail(entry, inputs, error)
        else:
            kept = keeper.finish(clock.seconds - before)
            kept.add_done_callback(partial(self._kept, entry, keeper, inputs))

    def _kept(self, entry: Entry, keeper: Keeper, inputs: Inputs, kept: Future[ScanRecord]) -> None:
        error = kept.exception()
        if error is None:
            self._outcomes.put(ScanOutcome(entry, keeper.maps, kept.result()))
        else:
            self._fail(entry, inputs, error)

    def _fail(self, entry: Entry, inputs: Inputs, error: BaseException) -> None:
        try:
            outcome = ScanOutcome(entry, record=self.job.failure(entry, inputs, error))
        except Exception as fatal:
            outcome = ScanOutcome(entry, fatal=fatal)
        self._outcomes.put(outcome)

    def _advance(self, entry: Entry, progress: Progress) -> None:
        if self._stop.is_set():
            raise Stopped
        self.on_scan(entry, progress)


def _require_devices(devices: Sequence[jax.Device], error: BaseException) -> None:
    """Checks whether an error is the devices' rather than the scan's.

    Raises:
        _DeviceLost: one of them computes nothing any more.
    """
    if isinstance(error, JaxsalError | OSError):
        return
    for device in devices:
        if not computes(device):
            raise _DeviceLost(f"{device} computes no more ({error})") from error
