"""Files of strangers are refused in a sentence or computed, and nothing outside is touched."""

from __future__ import annotations

from pathlib import Path

import pytest
from fuzz.catalogue import KINDS
from fuzz.judging import GOOD, Files, Judge, Kind
from helpers.thorough import thorough_except
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jaxsal.errors import InputError

BY_NAME = {kind.name: kind for kind in KINDS}
CASES = 10_000  # of the thorough run, of all kinds together
QUICK = {  # kinds that need no other library, with how many cases the quick run tries of each
    **{"NIfTI image": 30, "label map": 20, "parcellation, names": 20, "table of scans": 30},
    **{
        "BIDS sidecar": 20,
        "ratings": 20,
        "TOML of a training": 20,
        "detector": 30,
        "rows of an experiment": 10,
    },
    **{"record of a scan": 8, "unfinished scan": 8, "folder of explain": 8},
}


@pytest.fixture
def judge(tmp_path: Path) -> Judge:
    """Reads cases in a folder of its own."""
    return Judge(tmp_path)


def try_cases(judge: Judge, kind: Kind, cases: int) -> None:
    """Asserts that each of so many cases is refused or computed; they are always the same."""

    @settings(
        max_examples=cases,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(kind.strategy())
    def each(files: Files) -> None:
        verdict = judge(kind, files)
        assert verdict.outcome in GOOD, verdict

    each()


@pytest.mark.parametrize("name", thorough_except(BY_NAME, *QUICK))
def test_sound_files_are_computed_and_what_once_failed_is_refused(name: str, judge: Judge) -> None:
    kind = BY_NAME[name]
    assert judge(kind, {}).outcome == "computed"
    for number in range(len(kind.seeds)):
        verdict = judge(kind, kind.seed(number))
        assert verdict.outcome in GOOD, (number, verdict)


@pytest.mark.parametrize("name", QUICK)
def test_some_changed_files_are_refused_or_computed(name: str, judge: Judge) -> None:
    try_cases(judge, BY_NAME[name], QUICK[name])


@pytest.mark.thorough
@pytest.mark.parametrize("name", BY_NAME)
def test_many_changed_files_are_refused_or_computed(name: str, judge: Judge) -> None:
    kind = BY_NAME[name]
    try_cases(judge, kind, round(CASES * kind.share / sum(each.share for each in KINDS)))


def write_beside(folder: Path) -> None:
    (folder.parent / "elsewhere" / "new").write_text("x")


def say_nothing(folder: Path) -> None:
    raise InputError("")


@pytest.mark.parametrize(
    ("read", "outcome"),
    [
        (lambda folder: 1 / 0, "traceback"),
        (say_nothing, "traceback"),
        (lambda folder: bytearray(2**50), "memory"),
        (write_beside, "outside"),
        (lambda folder: (folder.parents[1] / "new").mkdir(), "outside"),
    ],
)
def test_faults_are_seen(read: object, outcome: str, tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    kind = Kind("a", lambda: {"a": b""}, lambda sound: st.just(sound), read)
    assert Judge(tmp_path / "root")(kind, {}).outcome == outcome
