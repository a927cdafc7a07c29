"""Many machines: the workers of a Dask cluster, to each of which scans are given as tasks."""

from __future__ import annotations

import os
import uuid
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from queue import Empty, SimpleQueue
from time import monotonic
from typing import TYPE_CHECKING, Any

from jaxsal.cohort.entries import Entry
from jaxsal.cohort.job import Job
from jaxsal.cohort.machines.local import with_budget
from jaxsal.cohort.machines.pipeline import Outcome, failure
from jaxsal.cohort.machines.task import Order, budget, explain_entry
from jaxsal.cohort.storage.claims import grant, withdraw
from jaxsal.cohort.storage.folder import CohortFolder
from jaxsal.cohort.storage.records import ScanRecord, stamps
from jaxsal.errors import InputError
from jaxsal.scan.loading import Scan
from jaxsal.scan.provenance import software
from jaxsal.settings import CohortSettings

if TYPE_CHECKING:
    from distributed import Client, Future

_POLL_SECONDS = 1.0  # between looks for workers that have come or gone
_RETRIES = 2  # of tasks that fail for another reason than the scan
_STOP_SECONDS = 60.0  # that tasks may take to finish their batches and tell


@dataclass
class Cluster:
    """The workers of a Dask cluster; see `jaxsal.cohort.run.Machines`.

    Each worker computes on the default devices of its process. Workers may come and go while the
    run lasts: scans of those that are lost are given to others, which go on where they were.

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
        try:
            client = Client(self.scheduler, timeout=self.patience, set_as_default=False)
        except (OSError, ValueError) as error:
            raise InputError(
                f"no Dask scheduler answers at {self.scheduler!r} ({error}): start one by `dask "
                "scheduler` and give the address that it tells, such as tcp://host:8786"
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
        self._given: dict[str, tuple[Entry, Future]] = {}
        self._ended: SimpleQueue[str] = SimpleQueue()

    def outcomes(self, entries: Sequence[Entry]) -> Iterator[Outcome]:
        """Gives out scans, a few more than are computed; yields what becomes of each."""
        left = deque(_everywhere(entry) for entry in entries)
        while left or self._given:
            room = self._room() - len(self._given)
            for _ in range(min(room, len(left))):
                self._submit(left.popleft())
            try:
                entry, future = self._given.pop(self._ended.get(timeout=_POLL_SECONDS))
            except Empty:
                continue
            outcome = self._outcome(entry, future)
            if outcome.record is None and outcome.fatal is None:
                left.appendleft(entry)  # two attempts stopped each other
                continue
            yield outcome

    def stop(self) -> None:
        """Has workers stop after the batches that they are computing, those that it can reach."""
        for entry, _ in self._given.values():
            with suppress(OSError):  # what ended the run is to be told, and others are to stop
                withdraw(self._folder.claim_path(entry.stem))
        end = monotonic() + _STOP_SECONDS
        while self._given and self._is_connected and monotonic() < end:
            try:
                self._given.pop(self._ended.get(timeout=_POLL_SECONDS))
            except Empty:
                continue
        if self._is_connected:
            self._client.cancel([future for _, future in self._given.values()])

    @property
    def _is_connected(self) -> bool:
        return bool(self._client.status == "running")

    def _room(self) -> int:
        """How many scans may be given out: so many that no worker waits, whoever comes."""
        if not self._is_connected:
            raise _lost()
        try:
            return 2 * sum(self._client.nthreads().values()) + 2
        except OSError as error:
            raise _lost() from error

    def _submit(self, entry: Entry) -> None:
        grant(self._folder.claim_path(entry.stem), self._run)
        self._submitted += 1
        key = f"explain-{entry.stem}-{self._run}-{self._submitted}"
        root = os.path.abspath(self._folder.root)
        future = self._client.submit(
            *(explain_entry, self._order, entry, root, self._run),
            key=key,
            pure=False,
            retries=_RETRIES,
        )
        self._given[key] = entry, future
        future.add_done_callback(lambda ended: self._ended.put(ended.key))

    def _outcome(self, entry: Entry, future: Future) -> Outcome:
        from distributed import CancelledError, KilledWorker

        try:
            outcome: Outcome = future.result()
        except CancelledError as error:
            raise _lost() from error
        except KilledWorker as error:
            return self._failed(entry, InputError(_deadly(error)))
        except ImportError as error:
            return Outcome(entry, fatal=InputError(f"a worker lacks what jaxsal needs: {error}"))
        except Exception as error:
            if not self._is_connected:
                raise _lost() from error
            return self._failed(entry, error)
        self._see(outcome.record)
        return outcome

    def _failed(self, entry: Entry, error: Exception) -> Outcome:
        inputs = stamps(entry.scan, self._job.model.channels)
        try:
            return Outcome(entry, record=failure(self._job, entry, inputs, error))
        except (OSError, InputError) as fatal:
            return Outcome(entry, fatal=fatal)

    def _see(self, record: ScanRecord | None) -> None:
        """Writes the record once more, if this machine goes on missing what a worker wrote."""
        if record is None or record.status == "failed":
            return
        path = self._folder.record_path(record.stem)
        if ScanRecord.read(path) is None:
            record.write(path)


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
        scan.reference and scan.reference.absolute(),
        scan.instances and scan.instances.absolute(),
    )
    return replace(entry, scan=absolute, entities=dict(entry.entities))


def _deadly(error: Any) -> str:
    return (
        f"workers that computed it ended, {error.allowed_failures + 1} of them, the last one at "
        f"{error.last_worker.address}: see their logs, for want of memory above all"
    )
