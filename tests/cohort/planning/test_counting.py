"""Lesions are counted where there are masks, and estimated with an honest error where not."""

from __future__ import annotations

import math
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from jaxsal.cohort.planning.counting import Group, Uncertain, done_with_some, groups_of, spread_over
from jaxsal.errors import InputError
from jaxsal.inputs.entries import Entry, Scan

NOTHING = Path("not-read.nii.gz")


def entry(name: str, **masks: Path) -> Entry:
    return Entry(name, Scan((NOTHING,), **masks), {"subject": name})


def mask_file(path: Path, sizes: list[int], labels: list[int] | None = None) -> Path:
    """Lines of so many voxels, two voxels apart, with these labels or ones."""
    data = np.zeros((12, 30, 3), np.uint8)
    for i, size in enumerate(sizes):
        data[:size, 3 * i, 1] = labels[i] if labels else 1
    nib.save(nib.Nifti1Image(data, np.diag([1.0, 1, 2, 1])), path)
    return path


def count(group: Group) -> Uncertain:
    return group.total(len)


def test_label_maps_are_counted_exactly_whatever_the_size_and_the_labels(tmp_path):
    maps = [
        mask_file(tmp_path / "a.nii.gz", [1, 4, 7], [3, 9, 200]),
        mask_file(tmp_path / "b.nii.gz", []),
        mask_file(tmp_path / "c.nii.gz", [2, 2], [5, 5]),  # one lesion in two pieces
    ]
    (group,) = groups_of([entry(f"p{i}", instances=path) for i, path in enumerate(maps)])
    group.read_masks(20, minimum_volume=5.0, notes=[])
    assert count(group) == Uncertain(4)
    assert group.total(sum) == Uncertain(1 + 4 + 7 + 4)
    assert group.counted() == "3 scans with label maps: counted in all of them"


def test_of_many_masks_a_sample_is_read_and_said(tmp_path):
    read = mask_file(tmp_path / "a.nii.gz", [1, 1], [1, 2])
    missing = tmp_path / "missing.nii.gz"
    group = Group("instances", [entry("p0", instances=missing), entry("p1", instances=read)])
    group.read_masks(1, minimum_volume=5.0, notes=[])
    assert count(group) == Uncertain(4, pytest.approx(2 * 2 * math.sqrt(1 / 2)))
    assert "counted in 1 of them" in group.counted()
    notes: list[str] = []
    group.read_masks(2, minimum_volume=5.0, notes=notes)
    assert "counted in 1 of them" in group.counted()
    (note,) = notes
    assert note.startswith("p0 cannot be worked with: ")
    assert "missing.nii.gz" in note


def test_reference_masks_are_split_into_lesions_larger_than_the_minimum(tmp_path):
    path = mask_file(tmp_path / "a.nii.gz", [2, 3, 6])  # 4, 6 and 12 mm³
    group = Group("reference", [entry("p", reference=path)])
    group.read_masks(20, minimum_volume=5.0, notes=[])
    assert group.masks == [(3, 6)]


def test_what_the_network_finds_beside_the_masks_scales_them():
    group = Group("reference", [entry(f"p{i}") for i in range(10)])
    group.masks = [(1, 1), (1, 1), (1, 1, 1, 1), (1, 1, 1, 1)]  # 3 each on average
    group.found, group.beside = [(2,) * 3, (2,) * 5], [(1,) * 2, (1,) * 2]
    assert count(group).value == pytest.approx(10 * 3 * 8 / 4)
    assert group.total(sum).value == pytest.approx(10 * 3 * 16 / 4)
    deviation = math.sqrt(4 / 3)  # of 2, 2, 4, 4
    masks = 2 * 10 * deviation / math.sqrt(4) * math.sqrt(1 - 4 / 10)
    residuals = math.sqrt((1 + 1) / 1)  # of 3 - 2 × 2 and 5 - 2 × 2
    ratio = 60 * residuals / math.sqrt(2) * math.sqrt(1 - 2 / 10) / 4
    assert count(group).error == pytest.approx(math.hypot(masks, ratio))
    assert "4 of the masks" in group.counted()
    assert "finds and misses in 2" in group.counted()


@pytest.mark.parametrize(
    ("found", "expected"),
    [([(1,), (1, 1, 1)], 12), ([(), ()], 0)],
    ids=["some", "none"],
)
def test_without_lesions_in_the_masks_what_was_found_counts(found, expected):
    group = Group("reference", [entry(f"p{i}") for i in range(6)])
    group.masks, group.found, group.beside = [(), ()], found, [(), ()]
    assert count(group).value == expected


def test_without_masks_the_predicted_scans_stand_for_all():
    group = Group("prediction", [entry(f"p{i}") for i in range(5)])
    group.found = [(1,), (1, 1), (1, 1, 1)]
    expected = 5 * 1 / math.sqrt(3) * math.sqrt(1 - 3 / 5)
    assert count(group) == Uncertain(10, pytest.approx(expected))


def test_a_mixed_cohort_is_counted_kind_by_kind(tmp_path):
    path = tmp_path / "mask.nii.gz"
    mixed = [entry("a", instances=path), entry("b", reference=path), entry("c"), entry("d")]
    assert {group.source: len(group.entries) for group in groups_of(mixed)} == {
        "instances": 1,
        "reference": 1,
        "prediction": 2,
    }


@pytest.mark.parametrize(
    ("number", "wanted", "expected"),
    [(5, 2, [1, 3]), (2, 2, [0, 1]), (2, 9, [0, 1]), (10, 1, [5]), (9, 3, [1, 4, 7])],
)
def test_a_sample_is_spread_over_the_cohort(number, wanted, expected):
    assert spread_over(range(number), wanted) == expected


@pytest.mark.parametrize(
    ("bad", "done"), [("", "cg"), ("c", "dg"), ("g", "ch"), ("cdg", "eh"), ("gh", "ca")]
)
def test_the_next_scan_takes_the_place_of_a_bad_one(bad, done):
    def work(scan: Entry) -> str:
        if scan.id in bad:
            raise InputError("no lesion")
        return scan.id

    notes: list[str] = []
    assert "".join(done_with_some([entry(i) for i in "abcdefgh"], 2, work, notes)) == done
    assert notes == [f"{name} cannot be worked with: no lesion" for name in bad]


@pytest.mark.parametrize("scans", ["a", "abcdefgh"])
def test_too_many_bad_scans_end_it_with_the_name_of_one(scans):
    def work(scan: Entry) -> str:
        raise InputError("no lesion")

    with pytest.raises(InputError, match=r"^\w cannot be worked with: no lesion"):
        list(done_with_some([entry(i) for i in scans], 2, work, []))
