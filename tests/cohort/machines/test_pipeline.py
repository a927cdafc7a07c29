"""Many scans through one machine; what is done with a scan is made up, so that nothing is slow."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import jax
import pytest

from jaxsal.cohort.entries import Entry
from jaxsal.cohort.machines import pipeline
from jaxsal.cohort.machines.pipeline import Outcome, Pipeline
from jaxsal.cohort.storage.records import ScanRecord
from jaxsal.scan import Scan

Explain = Callable[[Entry], None]
JOB: Any = SimpleNamespace(ran={})


class Keeper:
    """Has kept everything at once."""

    def __init__(self, entry: Entry) -> None:
        self.entry, self.maps = entry, None

    def finish(self, seconds: float) -> Future[ScanRecord]:
        kept: Future[ScanRecord] = Future()
        kept.set_result(ScanRecord(self.entry.id, self.entry.stem, "finished", {}))
        return kept


def make_entries(count: int) -> list[Entry]:
    return [Entry(f"{i:02}", Scan(()), {"subject": f"{i:02}"}) for i in range(count)]


@pytest.fixture
def outcomes(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Iterator[Outcome]]:
    """Runs some scans on lanes of one device each; `explain` is done with each scan."""

    def begin(explain: Explain, scans: int, lanes: int = 1) -> Iterator[Outcome]:
        monkeypatch.setattr(pipeline, "load", lambda job, entry: ({}, entry))
        monkeypatch.setattr(pipeline, "explain_scan", lambda job, loaded, *_: explain(loaded))
        each = [(device,) for device in jax.local_devices()[:lanes]]
        run = Pipeline(JOB, each, lambda entry, inputs: Keeper(entry))  # type: ignore[arg-type,return-value]
        return run.run(make_entries(scans))

    return begin


def test_scans_wait_until_somebody_asks_for_what_became_of_the_others(
    outcomes: Callable[..., Iterator[Outcome]],
) -> None:
    begun: list[str] = []
    seen = threading.Event()

    def explain(entry: Entry) -> None:
        begun.append(entry.id)
        seen.set()

    found = outcomes(explain, 20)
    next(found)
    while seen.wait(0.3):  # until no further scan is begun
        seen.clear()
    assert len(begun) <= 4
    assert len(list(found)) == 19
