"""What a run does with its tasks, with a scheduler that is not there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jaxsal.cohort.entries import Entry
from jaxsal.cohort.machines import cluster
from jaxsal.cohort.machines.cluster import _Tasks
from jaxsal.cohort.machines.pipeline import Outcome
from jaxsal.cohort.machines.task import Order
from jaxsal.cohort.storage.claims import Claim, Withdrawn, withdraw
from jaxsal.cohort.storage.folder import CohortFolder
from jaxsal.cohort.storage.records import ScanRecord
from jaxsal.scan.loading import Scan
from jaxsal.settings import CohortSettings, PredictSettings

pytest.importorskip("distributed")

ORDER = Order("model", "float32", PredictSettings(), CohortSettings(), "{}")
ENTRIES = [Entry(f"{i}", Scan((Path(f"{i}.nii"),)), {"subject": f"{i}"}) for i in range(3)]
Compute = Callable[[str, Entry], Outcome]


def done(worker: str, entry: Entry) -> Outcome:
    """A worker's answer; the record tells who gave it."""
    return Outcome(entry, record=ScanRecord(entry.id, entry.stem, "failed", {}, reason=worker))


class Task:
    """A future; its task ends when it is asked for the result."""

    def __init__(self, key: str, result: Callable[[], Outcome]) -> None:
        self.key, self.result = key, result

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        callback(self)


class Dask:
    """A client and its workers; gives each task to the first worker that may have it."""

    status = "running"

    def __init__(self, compute: Compute = done) -> None:
        self.workers, self.compute, self.cancelled = ["a", "b"], compute, 0

    def nthreads(self) -> dict[str, int]:
        return dict.fromkeys(self.workers, 1)

    def submit(self, _: Any, order: Order, entry: Entry, *more: Any, **how: Any) -> Task:
        worker = (how.get("workers") or self.workers)[0]
        return Task(how["key"], lambda: self.compute(worker, entry))

    def cancel(self, futures: list[Task]) -> None:
        self.cancelled += len(futures)


@pytest.fixture
def folder(tmp_path: Path) -> CohortFolder:
    """An empty one."""
    (tmp_path / ".jaxsal" / "claims").mkdir(parents=True)
    return CohortFolder(tmp_path)


def tasks_of(dask: Dask, folder: CohortFolder) -> _Tasks:
    """Tasks, of a job that is not looked at."""
    client: Any = dask
    job: Any = None
    return _Tasks(client, job, ORDER, folder)


def test_a_claim_that_cannot_be_withdrawn_keeps_no_other_from_it(
    folder: CohortFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def withdraw_unless_first(lock: Path) -> None:
        if lock == locks[0]:
            raise OSError(5, "Input/output error", str(lock))
        withdraw(lock)

    locks = [folder.claim_path(entry.stem) for entry in ENTRIES]
    monkeypatch.setattr(cluster, "withdraw", withdraw_unless_first)
    monkeypatch.setattr(cluster, "_STOP_SECONDS", 0.0)
    dask = Dask()
    tasks = tasks_of(dask, folder)
    for entry in ENTRIES:
        tasks._submit(entry)
    tasks.stop()
    for lock in locks[1:]:
        with pytest.raises(Withdrawn):
            Claim(lock, tasks._run)
    assert dask.cancelled == len(ENTRIES)
