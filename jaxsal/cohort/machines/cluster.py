"""Many machines: the workers of a Dask cluster, to each of which scans are given as tasks."""

from __future__ import annotations

import os
import re
import uuid
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from queue import Empty, SimpleQueue
from time import monotonic
from typing import TYPE_CHECKING, Any

from jaxsal.cohort.machines.order import Order, UnableError, version
from jaxsal.cohort.parts import ScanOutcome
from jaxsal.cohort.storage.folder import CohortFolder
from jaxsal.errors import InputError, OutputError
from jaxsal.inputs.entries import Entry, Scan
from jaxsal.store.claims import grant, withdraw
from jaxsal.store.records import ScanRecord, stamps
from jaxsal.versions import software

if TYPE_CHECKING:
    from distributed import Client, Future

    from jaxsal.cohort.job import CohortJob

_ADDRESS = re.compile(r"(\w+://)?\S+:\d+")
Explain = Callable[[Order, Entry, str, str], ScanOutcome]
_RETRIES = 2  # of tasks that fail for another reason than the scan


@dataclass
class Cluster:
    """The workers of a Dask cluster.

    Each worker computes on the default devices of its process. Workers may come and go during the
    run: the scans of a lost worker are given to others, which go on where it was. Workers that
    cannot carry out the order get no further scans; the run ends if there are no others.

    Attributes:
        scheduler: its address.
        model: directory of the model, which all machines see.
        explain: explains a scan and writes its results, on a worker; see
            `jaxsal.cohort.machines.task.explain_entry`.
        budget: returns the bytes for computing maps that a worker has, on that worker.
        patience: seconds to wait for the scheduler, and for a first worker.
        stopping: seconds that tasks may take, when the run ends, to finish their batches.
        busy_share: None, unknown.
    """

    scheduler: str
    model: Path
    explain: Explain
    budget: Callable[[], int]
    patience: float = 60.0
    stopping: float = 60.0
    busy_share: float | None = None

    @property
    def ran(self) -> dict[str, Any]:
        """Scheduler and software; the records of scans name the workers' devices."""
        return {"scheduler": self.scheduler, **software()}

    def outcomes(
        self, job: CohortJob, entries: Sequence[Entry], folder: CohortFolder | None
    ) -> Generator[ScanOutcome]:
        """Explains these scans; yields the outcome of each, in the order in which they end."""
        assert folder is not None  # `run_cohort` sees to that
        with self._connected() as client:
            order = Order.of(job, self.model)
            tasks = Tasks(client, job, order, folder, self.explain, stopping=self.stopping)
            try:
                yield from tasks.outcomes(entries)
            finally:
                tasks.stop()

    def memory(self) -> int:
        """Bytes for computing maps that each of the workers has.

        Raises:
            InputError: there is no scheduler, no worker, or none with jaxsal.
        """
        with self._connected() as client:
            answers = client.run(self.budget, on_error="return").values()
        budgets = [value for value in answers if isinstance(value, int)]
        if not budgets:
            reason = next(map(repr, answers), "they are gone")
            raise InputError(
                f"no worker at {self.scheduler} can compute ({reason}): install the same "
                "jaxsal for them as here"
            )
        return min(budgets)

    @contextmanager
    def _connected(self) -> Iterator[Client]:
        try:
            from distributed import Client
        except ImportError as error:
            raise InputError(
                "computing on many machines needs Dask: `pip install 'jaxsal[distributed]'`"
            ) from error
        if not _ADDRESS.fullmatch(self.scheduler):  # Dask would wait for minutes
            raise InputError(
                f"a scheduler's address has a host and a port, such as tcp://host:8786; got "
                f"{self.scheduler!r}"
            )
        try:
            client = Client(self.scheduler, timeout=self.patience, set_as_default=False)
        except (OSError, ValueError) as error:
            raise InputError(
                f"no Dask scheduler answers at {self.scheduler!r} ({error}): start one by `dask "
                "scheduler` and give the address that it prints, such as tcp://host:8786"
            ) from error
        with client:
            try:
                client.wait_for_workers(1, timeout=self.patience)
            except TimeoutError as error:
                raise InputError(
                    f"the scheduler at {self.scheduler} has no workers, nor got one within "
                    f"{self.patience:g} s: start some by `dask worker {self.scheduler}`"
                ) from error
            yield client


@dataclass(frozen=True)
class _Task:
    """A scan that is with a worker, none of those that were known to be unable."""

    entry: Entry
    future: Future
    without: frozenset[str]


class Tasks:
    """The scans that are with the workers.

    Args:
        client: connected to the scheduler.
        job: what is done.
        order: the same for workers.
        folder: the cohort's.
        explain: done by a worker; see `Cluster`.
        polling: seconds between looks for workers that have come or gone.
        stopping: seconds that tasks may take to finish their batches when the run ends.

    Attributes:
        run: the run's name, by which claims to scans are granted.
    """

    def __init__(
        self,
        client: Client,
        job: CohortJob,
        order: Order,
        folder: CohortFolder,
        explain: Explain,
        *,
        polling: float = 1.0,
        stopping: float = 60.0,
    ) -> None:
        self._client, self._job, self._order, self._folder = client, job, order, folder
        self._explain, self._polling, self._stopping = explain, polling, stopping
        self.run = uuid.uuid4().hex[:12]
        self._submitted = 0
        self._unable: dict[str, Exception] = {}  # by the worker's address
        self._given: dict[str, _Task] = {}
        self._ended: SimpleQueue[str] = SimpleQueue()

    def outcomes(self, entries: Sequence[Entry]) -> Iterator[ScanOutcome]:
        """Gives out scans, a few more than are computed; yields the outcome of each."""
        left = deque(_everywhere(entry) for entry in entries)
        while left or self._given:
            room = self._room() - len(self._given)
            for _ in range(min(room, len(left))):
                self.submit(left.popleft())
            try:
                task = self._given.pop(self._ended.get(timeout=self._polling))
            except Empty:
                continue
            outcome = self._outcome(task)
            if outcome.record is None and outcome.fatal is None:
                left.appendleft(task.entry)  # its worker is unable, or attempts stopped each other
                continue
            yield outcome

    def stop(self) -> None:
        """Stops the workers that can be reached, after the batches that they are computing."""
        for task in self._given.values():
            with suppress(OSError):  # the others are stopped, and the run's own error raised
                withdraw(self._folder.claim_path(task.entry.stem))
        end = monotonic() + self._stopping
        while self._given and self._is_connected and monotonic() < end:
            try:
                self._given.pop(self._ended.get(timeout=self._polling))
            except Empty:
                continue
        if self._is_connected:
            self._client.cancel([task.future for task in self._given.values()])

    @property
    def _is_connected(self) -> bool:
        return bool(self._client.status == "running")

    def _room(self) -> int:
        """How many scans may be given out: enough that no worker waits, even a new one."""
        return 2 * sum(self._able().values()) + 2

    def _able(self) -> dict[str, int]:
        """The number of threads of each worker that can carry out the order."""
        if not self._is_connected:
            raise _lost()
        try:
            threads = self._client.nthreads()
        except OSError as error:
            raise _lost() from error
        return {worker: n for worker, n in threads.items() if worker not in self._unable}

    def submit(self, entry: Entry) -> None:
        """Gives a scan to a worker."""
        grant(self._folder.claim_path(entry.stem), self.run)
        self._submitted += 1
        key = f"explain-{entry.stem}-{self.run}-{self._submitted}"
        root = os.path.abspath(self._folder.root)
        able = list(self._able()) if self._unable else None
        future = self._client.submit(
            *(self._explain, self._order, entry, root, self.run),
            key=key,
            pure=False,
            retries=_RETRIES,
            workers=able or None,
            allow_other_workers=bool(able),  # where these are lost
        )
        self._given[key] = _Task(entry, future, frozenset(self._unable))
        future.add_done_callback(lambda ended: self._ended.put(ended.key))

    def _outcome(self, task: _Task) -> ScanOutcome:
        from distributed import CancelledError, KilledWorker

        entry = task.entry
        try:
            outcome: ScanOutcome = task.future.result()
        except CancelledError as error:
            raise _lost() from error
        except KilledWorker as error:
            return self._failed(entry, InputError(_deadly(error)))
        except UnableError as error:
            return self._left_to_others(entry, {error.worker: error.reason})
        except Exception as error:
            if not self._is_connected:
                raise _lost() from error
            strangers = self._strangers()
            if strangers.keys() - task.without or isinstance(error, ImportError):
                return self._left_to_others(entry, strangers)
            return self._failed(entry, error)
        self._see(outcome.record)
        return outcome

    def _left_to_others(self, entry: Entry, unable: Mapping[str, Exception]) -> ScanOutcome:
        """An outcome without a record; with a fatal error if no worker can carry out the order."""
        self._unable.update(unable)
        if self._able() or not self._client.nthreads():
            return ScanOutcome(entry)
        worker, reason = list(self._unable.items())[-1]
        return ScanOutcome(
            entry, fatal=InputError(f"no worker can compute, the last one, {worker}: {reason}")
        )

    def _strangers(self) -> dict[str, Exception]:
        """Workers without jaxsal, or with another version, which fail before they can say so."""
        answers = self._client.run(version, on_error="return")
        lacking = {
            worker: InputError(f"it lacks what jaxsal needs: {answer}")
            for worker, answer in answers.items()
            if isinstance(answer, ImportError)
        }
        others = {
            worker: InputError(f"it has jaxsal {answer}, the run {version()}: install the same")
            for worker, answer in answers.items()
            if isinstance(answer, str) and answer != version()
        }
        return {**lacking, **others}

    def _failed(self, entry: Entry, error: Exception) -> ScanOutcome:
        inputs = stamps(entry.scan, self._job.model.channels)
        try:
            return ScanOutcome(entry, record=self._job.failure(entry, inputs, error))
        except (OSError, OutputError) as fatal:
            return ScanOutcome(entry, fatal=fatal)

    def _see(self, record: ScanRecord | None) -> None:
        """Writes a record again that a worker wrote, if this machine does not see it."""
        if record is None or record.status == "failed":
            return
        if self._folder.record(record.stem) is None:
            record.write(self._folder.record_path(record.stem))


def _lost() -> ConnectionError:
    return ConnectionError(
        "lost the Dask scheduler; what is finished stays: start it and its workers anew, and the "
        "same run goes on with the rest"
    )


def _everywhere(entry: Entry) -> Entry:
    """The scan with absolute paths, and entities that can be sent."""
    scan = entry.scan
    absolute = Scan(
        tuple(path.absolute() for path in scan.images),
        **{role: path.absolute() for role, path in scan.others.items()},
    )
    return replace(entry, scan=absolute, entities=dict(entry.entities))


def _deadly(error: Any) -> str:
    return (
        f"workers that computed it ended, {error.allowed_failures + 1} of them, the last one at "
        f"{error.last_worker.address}: see their logs, for want of memory above all"
    )
