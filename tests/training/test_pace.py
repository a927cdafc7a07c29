"""How long the device waits for data, by a clock of the test's own."""

from __future__ import annotations

from concurrent.futures import Future

import pytest

from jaxsal.training import pace
from jaxsal.training.pace import Pace


class Result:
    """Of a step that is done at a time; None: not before it is asked for."""

    def __init__(self, at: float) -> None:
        self.at = at


class Immediately:
    """In place of the thread that waits for the device."""

    def submit(self, _: object, result: Result) -> Future[float]:
        future: Future[float] = Future()
        future.set_result(result.at)
        return future

    def shutdown(self, **_: object) -> None:
        pass


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(pace.time, "perf_counter", lambda: now[0])
    return now


def test_the_device_waits_from_the_end_of_a_step_to_the_next(clock: list[float]) -> None:
    found = Pace(5, Immediately())
    # handed over at 0, 10 and 14, done at 4, 13 and 20: idle from 4 to 10 and from 13 to 14
    for begin, end in ((0.0, 4.0), (10.0, 13.0), (14.0, 20.0)):
        clock[0] = begin
        found.before()
        found.after(Result(end))
    found.pause()
    assert found.row() == {"patches_per_second": 3 * 5 / 20, "waited_share": 7 / 20}
    clock[0] = 100.0  # after a validation, which is not waited for
    found.before()
    found.after(Result(102.0))
    found.pause()
    assert found.row() == {"patches_per_second": 5 / 2, "waited_share": 0.0}
    assert found.overall == pytest.approx(4 * 5 / 22)


def test_nothing_is_told_of_nothing() -> None:
    found = Pace(2)
    assert found.row() == {}
    assert found.overall is None
    found.close()
