"""What a run does with its tasks, with a scheduler that is not there."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from jaxsal import __version__
from jaxsal.cohort.machines import cluster
from jaxsal.cohort.machines.cluster import Tasks
from jaxsal.cohort.machines.order import Order, UnableError
from jaxsal.cohort.machines.task import explain_entry
from jaxsal.cohort.parts import ScanOutcome
from jaxsal.cohort.storage.folder import CohortFolder
from jaxsal.errors import InputError
from jaxsal.inputs.entries import Entry, Scan
from jaxsal.settings import CohortSettings, PredictSettings
from jaxsal.store.claims import Claim, Withdrawn, withdraw
from jaxsal.store.records import ScanRecord

pytest.importorskip("distributed")

ORDER = Order("model", "float32", None, False, (), PredictSettings(), CohortSettings(), "{}")
ENTRIES = [Entry(f"{i}", Scan((Path(f"{i}.nii"),)), {"subject": f"{i}"}) for i in range(3)]
Compute = Callable[[str, Entry], ScanOutcome]


def done(worker: str, entry: Entry) -> ScanOutcome:
    """A worker's answer; the record tells who gave it."""
    return ScanOutcome(entry, record=ScanRecord(entry.id, entry.stem, "failed", {}, reason=worker))


class Task:
    """A future; its task ends when it is asked for the result."""

    def __init__(self, key: str, result: Callable[[], ScanOutcome]) -> None:
        self.key, self.result = key, result

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        callback(self)


class Dask:
    """A client and its workers; gives each task to the first worker that may have it."""

    status = "running"

    def __init__(self, compute: Compute = done) -> None:
        self.workers, self.compute, self.cancelled = ["a", "b"], compute, 0
        self.versions: dict[str, Any] = {}

    def nthreads(self) -> dict[str, int]:
        return dict.fromkeys(self.workers, 1)

    def submit(self, _: Any, order: Order, entry: Entry, *more: Any, **how: Any) -> Task:
        worker = (how.get("workers") or self.workers)[0]
        return Task(how["key"], lambda: self.compute(worker, entry))

    def run(self, *_: Any, on_error: str) -> dict[str, Any]:
        return {worker: self.versions.get(worker, __version__) for worker in self.workers}

    def cancel(self, futures: list[Task]) -> None:
        self.cancelled += len(futures)


@pytest.fixture
def folder(tmp_path: Path) -> CohortFolder:
    """An empty one."""
    (tmp_path / ".jaxsal" / "claims").mkdir(parents=True)
    return CohortFolder(tmp_path)


def tasks_of(dask: Dask, folder: CohortFolder) -> Tasks:
    """Tasks, of a job that is not looked at."""
    client: Any = dask
    job: Any = SimpleNamespace(model=SimpleNamespace(channels=("t1",)), failure=failure)
    return Tasks(client, job, ORDER, folder, explain_entry, polling=0.01, stopping=0.0)


def failure(entry: Entry, inputs: Any, error: BaseException) -> ScanRecord:
    """The record of a bad scan."""
    return ScanRecord(entry.id, entry.stem, "failed", inputs, reason=str(error))


def test_a_claim_that_cannot_be_withdrawn_keeps_no_other_from_it(
    folder: CohortFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def withdraw_unless_first(lock: Path) -> None:
        if lock == locks[0]:
            raise OSError(5, "Input/output error", str(lock))
        withdraw(lock)

    locks = [folder.claim_path(entry.stem) for entry in ENTRIES]
    monkeypatch.setattr(cluster, "withdraw", withdraw_unless_first)
    dask = Dask()
    tasks = tasks_of(dask, folder)
    for entry in ENTRIES:
        tasks.submit(entry)
    tasks.stop()
    for lock in locks[1:]:
        with pytest.raises(Withdrawn):
            Claim(lock, tasks.run)
    assert dask.cancelled == len(ENTRIES)


def reasons(dask: Dask, folder: CohortFolder) -> dict[str, str]:
    """What was recorded of each scan."""
    told = {}
    for outcome in tasks_of(dask, folder).outcomes(ENTRIES):
        if outcome.fatal is not None:
            raise outcome.fatal
        assert outcome.record is not None
        told[outcome.entry.id] = outcome.record.reason
    return told


NO_MODEL = InputError("the model directory is not there")
NO_JAXSAL = ModuleNotFoundError("No module named 'jaxsal'")


@pytest.mark.parametrize(
    ("error", "version"),
    [
        (UnableError("a", NO_MODEL), __version__),
        (UnableError("a", OSError(116, "Stale file handle")), __version__),
        (NO_JAXSAL, NO_JAXSAL),
        (AttributeError("its Order has no such attribute"), "0.0"),
    ],
)
def test_a_worker_that_cannot_do_what_is_ordered_leaves_it_to_others(
    error: Exception, version: Any, folder: CohortFolder
) -> None:
    def compute(worker: str, entry: Entry) -> ScanOutcome:
        if worker == "a":
            raise pickle.loads(pickle.dumps(error))
        return done(worker, entry)

    dask = Dask(compute)
    dask.versions["a"] = version
    assert reasons(dask, folder) == {entry.id: "b" for entry in ENTRIES}


def test_the_run_ends_where_no_worker_can_do_what_is_ordered(folder: CohortFolder) -> None:
    tried = []

    def compute(worker: str, entry: Entry) -> ScanOutcome:
        tried.append(worker)
        raise UnableError(worker, NO_MODEL)

    with pytest.raises(InputError, match=str(NO_MODEL)):
        reasons(Dask(compute), folder)
    assert set(tried) == {"a", "b"}


def test_an_error_that_is_the_scans_is_recorded_though_a_worker_is_unable(
    folder: CohortFolder,
) -> None:
    def compute(worker: str, entry: Entry) -> ScanOutcome:
        if worker == "a":
            raise NO_JAXSAL
        if entry.id == "1":
            raise RuntimeError("a bad scan")
        return done(worker, entry)

    dask = Dask(compute)
    dask.versions["a"] = NO_JAXSAL
    assert reasons(dask, folder) == {"0": "b", "1": "a bad scan", "2": "b"}
