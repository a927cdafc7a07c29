from __future__ import annotations

from pathlib import Path

import pytest

from jaxsal.errors import InputError
from jaxsal.inputs.entries import Entry, Scan
from jaxsal.training.splits import split


def make_entries(*scans_per_subject: int) -> list[Entry]:
    scan = Scan((Path("flair.nii.gz"),))
    return [
        Entry(f"scan {s}.{n}", scan, {"subject": f"P{s}", "session": str(n)})
        for s, count in enumerate(scans_per_subject)
        for n in range(count)
    ]


def subjects(entries: list[Entry]) -> set[str]:
    return {entry.entities["subject"] for entry in entries}


@pytest.mark.parametrize("seed", range(5))
def test_no_subject_is_on_both_sides(seed: int) -> None:
    entries = make_entries(3, 1, 2, 4, 1, 2, 2, 1)
    training, validation = split(entries, 0.25, seed)
    assert len(subjects(validation)) == 2
    assert not subjects(training) & subjects(validation)
    assert sorted(training + validation, key=lambda e: e.id) == entries


def test_the_split_is_of_the_seed_not_of_the_order() -> None:
    entries = make_entries(*[1] * 20)
    drawn = {seed: subjects(split(entries, 0.2, seed)[1]) for seed in range(4)}
    assert drawn == {seed: subjects(split(entries[::-1], 0.2, seed)[1]) for seed in range(4)}
    assert len({frozenset(found) for found in drawn.values()}) == 4


def test_a_further_subject_leaves_the_others_where_they_are() -> None:
    before = subjects(split(make_entries(*[1] * 20), 0.5, 0)[1])
    after = subjects(split(make_entries(*[1] * 21), 0.5, 0)[1])
    assert len(before ^ after) <= 2


@pytest.mark.parametrize(("share", "expected"), [(0, 0), (0.01, 1), (0.99, 3), (0.5, 2)])
def test_whole_subjects_are_drawn_and_some_are_left(share: float, expected: int) -> None:
    assert len(subjects(split(make_entries(2, 2, 2, 2), share, 0)[1])) == expected


@pytest.mark.parametrize("name", ["P1", "sub-P1", "scan 1.0"])
def test_a_name_stands_for_a_subject_with_all_scans(name: str) -> None:
    training, validation = split(make_entries(1, 3, 1), [name])
    assert [entry.id for entry in validation] == ["scan 1.0", "scan 1.1", "scan 1.2"]
    assert subjects(training) == {"P0", "P2"}


@pytest.mark.parametrize(
    ("counts", "validation", "told"),
    [
        ((3,), 0.2, "there is one, P0"),
        ((1, 1), 1.0, "below 1"),
        ((1, 1), -0.1, "below 1"),
        ((1, 1), ["P1", "P7", "scan 9"], "called P7 or scan 9; the subjects are P0, P1"),
        ((1, 1), ["P0", "scan 1.0"], "of 2 subjects validation takes all, and none is left"),
        ((), 0.0, "none is left to train on"),
    ],
)
def test_what_cannot_be_split_is_told(counts: tuple[int, ...], validation, told: str) -> None:
    with pytest.raises(InputError, match=told):
        split(make_entries(*counts), validation)


def test_a_name_of_one_subject_and_of_anothers_scan_is_refused() -> None:
    scan = Scan((Path("flair.nii.gz"),))
    entries = [Entry("A", scan, {"subject": "B"}), Entry("other", scan, {"subject": "A"})]
    with pytest.raises(InputError, match="several subjects, A, B"):
        split(entries, ["A"])
