"""Many scans through one machine; what is done with a scan is made up, so that nothing is slow."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import jax
import pytest

from jaxsal.cohort.machines import pipeline
from jaxsal.cohort.machines.pipeline import Pipeline
from jaxsal.cohort.parts import ScanOutcome
from jaxsal.current_device import current_device
from jaxsal.devices import computes
from jaxsal.inputs.entries import Entry, Scan
from jaxsal.store.records import ScanRecord

Explain = Callable[[Entry], None]


def failed(entry: Entry, inputs: Any, error: BaseException) -> ScanRecord:
    """The record of a bad scan."""
    if isinstance(error, OSError):
        raise error
    return ScanRecord(entry.id, entry.stem, "failed", inputs, reason=str(error))


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
def outcomes() -> Callable[..., Iterator[ScanOutcome]]:
    """Runs some scans on lanes of one device each; `explain` is done with each scan."""

    def begin(explain: Explain, scans: int, lanes: int = 1) -> Iterator[ScanOutcome]:
        job: Any = SimpleNamespace(
            load=lambda entry: ({}, entry),
            explain=lambda loaded, *_: explain(loaded),
            failure=failed,
        )
        each = [(device,) for device in jax.local_devices()[:lanes]]
        run = Pipeline(job, each, lambda entry, inputs: Keeper(entry))  # type: ignore[arg-type,return-value]
        return run.run(make_entries(scans))

    return begin


def test_scans_wait_until_somebody_asks_for_what_became_of_the_others(
    outcomes: Callable[..., Iterator[ScanOutcome]],
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


@pytest.fixture
def losing(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], Explain]:
    """Explains scans, but on some of the devices nothing computes any more."""

    def make(count: int) -> Explain:
        dead = jax.local_devices()[:count]
        tried = threading.Event()
        monkeypatch.setattr(pipeline, "computes", lambda device: device not in dead)

        def explain(entry: Entry) -> None:
            if current_device() in dead:
                tried.set()
                raise RuntimeError("CUDA_ERROR_ILLEGAL_ADDRESS")
            tried.wait(10)

        return explain

    return make


def test_scans_of_a_lost_device_are_left_to_the_others(
    losing: Callable[[int], Explain], outcomes: Callable[..., Iterator[ScanOutcome]]
) -> None:
    with pytest.warns(UserWarning, match="computes no more"):
        found = list(outcomes(losing(1), 12, lanes=2))
    assert {o.record.status for o in found if o.record} == {"finished"}
    assert sorted(o.entry.id for o in found) == [entry.id for entry in make_entries(12)]


def test_without_any_device_left_the_run_ends_and_no_scan_is_called_bad(
    losing: Callable[[int], Explain], outcomes: Callable[..., Iterator[ScanOutcome]]
) -> None:
    found = outcomes(losing(1), 12)
    with (
        pytest.warns(UserWarning, match="computes no more"),
        pytest.raises(OSError, match="no other is left"),
    ):
        next(found)


def test_a_scan_on_which_two_devices_are_lost_is_a_bad_one(
    outcomes: Callable[..., Iterator[ScanOutcome]], monkeypatch: pytest.MonkeyPatch
) -> None:
    dead: set[jax.Device] = set()
    monkeypatch.setattr(pipeline, "computes", lambda device: device not in dead)

    def explain(entry: Entry) -> None:
        if entry.id == "02":
            dead.add(current_device())
            raise RuntimeError("CUDA_ERROR_ILLEGAL_ADDRESS")

    with pytest.warns(UserWarning, match="computes no more"):
        found = list(outcomes(explain, 6, lanes=3))
    failed = [o.entry.id for o in found if o.record and o.record.status == "failed"]
    assert (failed, len(found), len(dead)) == (["02"], 6, 2)


def test_a_device_is_asked_whether_it_computes() -> None:
    assert computes(jax.local_devices()[0])
    assert not computes("no device")  # type: ignore[arg-type]
