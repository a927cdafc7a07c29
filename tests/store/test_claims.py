"""Who may work on a scan, where several machines do."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import nullcontext, suppress
from pathlib import Path
from time import sleep
from typing import NoReturn

import pytest
from filelock import FileLock

from jaxsal.errors import InputError, OutputError
from jaxsal.store import claims
from jaxsal.store.claims import Claim, Patience, Withdrawn, grant, take_back, withdraw, withdraw_all


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    (tmp_path / "out" / ".jaxsal" / "claims").mkdir(parents=True)
    return tmp_path / "out" / ".jaxsal" / "claims" / "sub-1.lock"


def test_a_claim_stands_until_it_is_withdrawn(lock: Path) -> None:
    grant(lock, "monday")
    claim = Claim(lock, "monday")
    with claim.locked():
        claim.check(at_once=True)
        withdraw(lock)
        with pytest.raises(Withdrawn):
            claim.check(at_once=True)


def test_a_later_attempt_takes_over_from_an_earlier_one(lock: Path) -> None:
    grant(lock, "monday")
    earlier, later = Claim(lock, "monday"), Claim(lock, "monday")
    later.check(at_once=True)
    with pytest.raises(Withdrawn):
        earlier.check(at_once=True)


def test_a_later_run_takes_over_from_one_that_was_killed(lock: Path) -> None:
    grant(lock, "monday")
    claim = Claim(lock, "monday")
    grant(lock, "tuesday")
    with pytest.raises(Withdrawn):
        claim.check(at_once=True)
    with pytest.raises(Withdrawn):
        Claim(lock, "monday")
    Claim(lock, "tuesday").check(at_once=True)


def test_a_full_disk_keeps_nobody_from_withdrawing(
    lock: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path) -> NoReturn:
        raise OutputError(f"Cannot write {path}: No space left on device.")

    grant(lock, "monday")
    claim = Claim(lock, "monday")
    monkeypatch.setattr(claims, "whole_file", full)
    withdraw(lock)
    with pytest.raises(Withdrawn):
        claim.check(at_once=True)


@pytest.mark.parametrize("change", [withdraw, lambda lock: grant(lock, "tuesday")])
def test_a_right_that_is_lost_while_an_attempt_signs_stays_lost(
    lock: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], None]
) -> None:
    grant(lock, "monday")

    def told(note: Path) -> bytes:
        monkeypatch.undo()
        text = note.read_bytes()
        change(lock)  # between the attempt's look and its signature
        return text

    monkeypatch.setattr(Path, "read_bytes", told)
    claim = Claim(lock, "monday")
    with pytest.raises(Withdrawn):
        claim.check(at_once=True)


def test_who_takes_a_right_back_waits_until_nobody_works_on_the_scan(lock: Path) -> None:
    grant(lock, "monday")
    claim, working, told = Claim(lock, "monday"), threading.Event(), []

    def work() -> None:
        with suppress(Withdrawn), claim.locked():
            working.set()
            try:
                while True:
                    claim.check(at_once=True)
            finally:
                sleep(0.1)  # the end of a batch
                told.append("ended")

    worker = threading.Thread(target=work)
    worker.start()
    working.wait()
    withdraw_all(lock.parent)
    assert told == ["ended"]
    worker.join()


def test_an_attempt_that_waited_for_the_lock_does_not_work_without_a_right(lock: Path) -> None:
    grant(lock, "monday")
    claim = Claim(lock, "monday")
    take_back([lock])
    with pytest.raises(Withdrawn), claim.locked():
        pytest.fail("it works")


def test_a_worker_that_does_not_notice_is_reported(lock: Path) -> None:
    grant(lock, "monday")
    with (
        Claim(lock, "monday").locked(),
        pytest.raises(InputError, match=r"works on sub-1 in .*/out; it was asked to stop"),
    ):
        take_back([lock], Patience(end=0.0))


def test_nothing_is_taken_back_where_nothing_was_given(lock: Path) -> None:
    take_back([lock])
    assert not list(lock.parent.iterdir())


@pytest.mark.parametrize(("look", "looks"), [(1e9, False), (0.0, True)])
def test_nothing_is_looked_up_again_and_again(look: float, looks: bool, lock: Path) -> None:
    grant(lock, "monday")
    claim = Claim(lock, "monday", Patience(look=look))
    withdraw(lock)
    with pytest.raises(Withdrawn) if looks else nullcontext():
        claim.check()


def test_a_lock_that_an_earlier_attempt_does_not_give_back_is_reported(lock: Path) -> None:
    grant(lock, "monday")
    with (
        FileLock(lock),
        pytest.raises(RuntimeError, match="an earlier attempt still holds"),
        Claim(lock, "monday", Patience(look=0.01, end=0.0)).locked(),
    ):
        pass


def test_a_note_that_is_seen_late_is_waited_for(lock: Path) -> None:
    grant(lock, "monday")
    note = lock.with_suffix(".note")
    elsewhere = note.rename(note.with_suffix(".elsewhere"))
    later = threading.Timer(0.05, elsewhere.rename, [note])
    later.start()
    Claim(lock, "monday", Patience(look=0.01)).check(at_once=True)
    later.join()


def test_a_folder_that_is_not_shared_is_reported(lock: Path) -> None:
    with pytest.raises(InputError, match=r"does not find what the run wrote into .*/out: "):
        Claim(lock, "monday", Patience(find=0.0))
