"""Many machines: the workers of a Dask cluster, to each of which scans are given as tasks."""

from __future__ import annotations

import os
import re
import uuid
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from queue import Empty, SimpleQueue
from time import monotonic
from typing import TYPE_CHECKING, Any

from jaxsal.cohort.job import Job
from jaxsal.cohort.machines.local import with_budget
from jaxsal.cohort.machines.pipeline import Outcome, failure
from jaxsal.cohort.machines.task import Order, UnableError, budget, explain_entry, version
from jaxsal.cohort.storage.folder import CohortFolder
from jaxsal.errors import InputError, OutputError
from jaxsal.inputs.entries import Entry
from jaxsal.inputs.scan import Scan
from jaxsal.scan.provenance import software
from jaxsal.settings import CohortSettings
from jaxsal.store.claims import grant, withdraw
from jaxsal.store.records import ScanRecord, stamps

if TYPE_CHECKING:
    from distributed import Client, Future

_ADDRESS = re.compile(r"(\w+://)?\S+:\d+")
_POLL_SECONDS = 1.0  # between looks for workers that have come or gone
_RETRIES = 2  # of tasks that fail for another reason than the scan
_STOP_SECONDS = 60.0  # that tasks may take to finish their batches and tell


@dataclass
class Cluster:
    """The workers of a Dask cluster; see `jaxsal.cohort.run.Machines`.

    Each worker computes on the default devices of its process. Workers may come and go while the
    run lasts: scans of those that are lost are given to others, which go on where they were. Those
    that cannot do what is ordered are left out; the run ends if there are others no more.

    Attributes:
        scheduler: its address.
        model: directory of the model, which all machines see.
        patience: seconds to wait for the scheduler, and for a first worker.
        busy_share: not known.
    """

    scheduler: str
    model: Path
    patience: float = 60.0
    busy_share: float | None = None

    @property
    def ran(self) -> dict[str, Any]:
        """What computes, but for what each worker's records tell."""
        return {"scheduler": self.scheduler, **software()}

    def outcomes(
        self, job: Job, entries: Sequence[Entry], folder: CohortFolder | None
    ) -> Generator[Outcome]:
        assert folder is not None  # `run_cohort` sees to that
        with self._connected() as client:
            tasks = _Tasks(client, job, Order.of(job, self.model), folder)
            try:
                yield from tasks.outcomes(entries)
            finally:
                tasks.stop()

    def within_memory(
        self, settings: CohortSettings, folder: CohortFolder | None
    ) -> CohortSettings:
        """The settings with a memory budget that each of the workers has.

        Raises:
            InputError: there is no scheduler, no worker, or none with jaxsal.
        """
        with self._connected() as client:
            told = client.run(budget, on_error="return").values()
        budgets = [value for value in told if isinstance(value, int)]
        if not budgets:
            reason = next(map(repr, told), "they are gone")
            raise InputError(
                f"no worker at {self.scheduler} can compute ({reason}): install the same "
                "jaxsal for them as here"
            )
        return with_budget(settings, folder, min(budgets))

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
    """A scan that is with a worker, but not with those that were known to be unable."""

    entry: Entry
    future: Future
    without: frozenset[str]


class _Tasks:
    """The scans that are with the workers.

    Args:
        client: connected to the scheduler.
        job: what is done.
        order: the same for workers.
        folder: the cohort's.
    """

    def __init__(self, client: Client, job: Job, order: Order, folder: CohortFolder) -> None:
        self._client, self._job, self._order, self._folder = client, job, order, folder
        self._run = uuid.uuid4().hex[:12]
        self._submitted = 0
        self._unable: dict[str, Exception] = {}  # by the worker's address
        self._given: dict[str, _Task] = {}
        self._ended: SimpleQueue[str] = SimpleQueue()

    def outcomes(self, entries: Sequence[Entry]) -> Iterator[Outcome]:
        """Gives out scans, a few more than are computed; yields what becomes of each."""
        left = deque(_everywhere(entry) for entry in entries)
        while left or self._given:
            room = self._room() - len(self._given)
            for _ in range(min(room, len(left))):
                self._submit(left.popleft())
            try:
                task = self._given.pop(self._ended.get(timeout=_POLL_SECONDS))
            except Empty:
                continue
            outcome = self._outcome(task)
            if outcome.record is None and outcome.fatal is None:
                left.appendleft(task.entry)  # its worker cannot, or two attempts stopped each other
                continue
            yield outcome

    def stop(self) -> None:
        """Has workers stop after the batches that they are computing, those that it can reach."""
        for task in self._given.values():
            with suppress(OSError):  # what ended the run is to be told, and others are to stop
                withdraw(self._folder.claim_path(task.entry.stem))
        end = monotonic() + _STOP_SECONDS
        while self._given and self._is_connected and monotonic() < end:
            try:
                self._given.pop(self._ended.get(timeout=_POLL_SECONDS))
            except Empty:
                continue
        if self._is_connected:
            self._client.cancel([task.future for task in self._given.values()])

    @property
    def _is_connected(self) -> bool:
        return bool(self._client.status == "running")

    def _room(self) -> int:
        """How many scans may be given out: so many that no worker waits, whoever comes."""
        return 2 * sum(self._able().values()) + 2

    def _able(self) -> dict[str, int]:
        """How many threads each worker has, of those that can do what is ordered."""
        if not self._is_connected:
            raise _lost()
        try:
            threads = self._client.nthreads()
        except OSError as error:
            raise _lost() from error
        return {worker: n for worker, n in threads.items() if worker not in self._unable}

    def _submit(self, entry: Entry) -> None:
        grant(self._folder.claim_path(entry.stem), self._run)
        self._submitted += 1
        key = f"explain-{entry.stem}-{self._run}-{self._submitted}"
        root = os.path.abspath(self._folder.root)
        able = list(self._able()) if self._unable else None
        future = self._client.submit(
            *(explain_entry, self._order, entry, root, self._run),
            key=key,
            pure=False,
            retries=_RETRIES,
            workers=able or None,
            allow_other_workers=bool(able),  # where these are lost
        )
        self._given[key] = _Task(entry, future, frozenset(self._unable))
        future.add_done_callback(lambda ended: self._ended.put(ended.key))

    def _outcome(self, task: _Task) -> Outcome:
        from distributed import CancelledError, KilledWorker

        entry = task.entry
        try:
            outcome: Outcome = task.future.result()
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

    def _left_to_others(self, entry: Entry, unable: Mapping[str, Exception]) -> Outcome:
        """No outcome yet, but for the run if no worker that is there can do what is ordered."""
        self._unable.update(unable)
        if self._able() or not self._client.nthreads():
            return Outcome(entry)
        worker, reason = list(self._unable.items())[-1]
        return Outcome(
            entry, fatal=InputError(f"no worker can compute, the last one, {worker}: {reason}")
        )

    def _strangers(self) -> dict[str, Exception]:
        """Workers that cannot even tell what they lack: without jaxsal, or with another one."""
        told = self._client.run(version, on_error="return")
        lacking = {
            worker: InputError(f"it lacks what jaxsal needs: {answer}")
            for worker, answer in told.items()
            if isinstance(answer, ImportError)
        }
        others = {
            worker: InputError(f"it has jaxsal {answer}, the run {version()}: install the same")
            for worker, answer in told.items()
            if isinstance(answer, str) and answer != version()
        }
        return {**lacking, **others}

    def _failed(self, entry: Entry, error: Exception) -> Outcome:
        inputs = stamps(entry.scan, self._job.model.channels)
        try:
            return Outcome(entry, record=failure(self._job, entry, inputs, error))
        except (OSError, OutputError) as fatal:
            return Outcome(entry, fatal=fatal)

    def _see(self, record: ScanRecord | None) -> None:
        """Writes the record once more, if this machine goes on missing what a worker wrote."""
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
    """The scan with paths that mean the same in every process, and entities that can be sent."""
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
