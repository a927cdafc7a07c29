"""The unfinished results of a scan."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jaxsal.cohort.storage.folder import CohortFolder
from jaxsal.cohort.storage.names import Names
from jaxsal.cohort.storage.work import ScanWork
from jaxsal.grid import Grid
from jaxsal.inputs.images import LoadedScan
from jaxsal.lesions import label_lesions
from jaxsal.scan.prediction import Prediction
from jaxsal.store.records import ScanRecord

NAMES = (Names("sub-1").labels, Names("sub-1").table)


def test_results_that_somebody_else_makes_appear_at_the_same_time_are_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = CohortFolder(tmp_path)
    folder.record_path("sub-1").parent.mkdir(parents=True)
    work, other = ScanWork(folder, "sub-1"), ScanWork(folder, "sub-1")
    work.begin({})
    for name in NAMES:
        work.path(name).write_text(name)
    record = ScanRecord("1", "sub-1", "finished", {}, files=work.files(list(NAMES)))
    move = os.replace

    def replace_after_the_other(source: Path, final: Path) -> None:
        if str(source).endswith(NAMES[0]):
            monkeypatch.undo()
            other.settle()
        move(source, final)

    monkeypatch.setattr(os, "replace", replace_after_the_other)
    work.publish(record)
    assert {name: (tmp_path / name).read_text() for name in NAMES} == {n: n for n in NAMES}
    assert folder.record("sub-1") == record
    assert not folder.work_path("sub-1").exists()


def test_a_record_of_unfinished_results_replaces_no_file_but_the_scans_own(tmp_path: Path) -> None:
    work = ScanWork(CohortFolder(tmp_path), "sub-1")
    work.begin({})
    (tmp_path / "README").write_text("mine")
    work.path("README").write_text("theirs")
    record = ScanRecord("1", "sub-1", "finished", {}, files=work.files(["README"]))
    with pytest.warns(UserWarning, match="'README' is no name of this scan's results"):
        work.publish(record)
    assert (tmp_path / "README").read_text() == "mine"


@pytest.mark.parametrize(
    ("rows", "kept"),
    [
        ({"2": {"seconds": 1.0}, "3": {"seconds": 1.0}}, True),
        ({"2": {"seconds": 1.0}}, False),
        ({}, False),
        ({"2": {"seconds": 1.0}, "3": {}}, False),
        ({"2": 1, "3": 1}, False),
        ([], False),
    ],
)
def test_a_portion_is_kept_if_it_holds_a_row_of_each_of_its_lesions(
    rows: Any, kept: bool, tmp_path: Path
) -> None:
    folder = CohortFolder(tmp_path)
    work = ScanWork(folder, "sub-1")
    work.begin({})
    path = folder.work_path("sub-1") / "portion-00000.json"
    path.write_text(json.dumps({"rows": rows, "files": {}}))
    assert (work.portion(0, (2, 3)) is not None) == kept


def test_a_portion_with_files_of_others_is_not_kept(tmp_path: Path) -> None:
    work = ScanWork(CohortFolder(tmp_path), "sub-1")
    work.begin({})
    own, other = (Names(stem).map(1, "t1_smoothgrad-max") for stem in ("sub-1", "sub-2"))
    for name in (own, other):
        work.path(name).write_text("map")
        work.save_portion(0, {1: {"seconds": 1.0}}, work.files([name]))
        assert (work.portion(0, (1,)) is not None) == (name == own)


def found_lesions(threshold: float | None) -> Prediction:
    grid = Grid((6, 4, 3), np.eye(4))
    segmented = np.zeros(grid.shape, bool)
    segmented[:, 0, 0] = segmented[2, 3, 2] = True  # a lesion, and what is too small for one
    labels, instances = label_lesions(segmented, grid, np.zeros(grid.shape, bool))
    probability = np.random.default_rng(0).random(grid.shape).astype(np.float32)
    loaded = LoadedScan(np.zeros((*grid.shape, 1), np.float32), grid, np.s_[0:6, 0:4, 0:3])
    return Prediction(loaded, probability, threshold, segmented, labels, instances)


@pytest.mark.parametrize("threshold", [0.3, None])
def test_lesions_come_back_as_they_were_found(tmp_path: Path, threshold: float | None) -> None:
    found = found_lesions(threshold)
    work = ScanWork(CohortFolder(tmp_path), "sub-1")
    work.begin({})
    work.save_lesions(found)
    again = work.lesions(found.scan)
    assert again is not None
    for name in ("probability", "segmented", "labels"):
        np.testing.assert_array_equal(getattr(again, name), getattr(found, name))
    assert (again.threshold, again.instances) == (threshold, found.instances)
    assert [instance.kind for instance in found.instances] == ["FP"]


@pytest.mark.parametrize(
    "changes",
    [
        {"threshold": "0.3"},
        {"kinds": []},
        {"kinds": {"x": "FP"}},
        {"kinds": {}},
        {"threshold": ...},
    ],
)
def test_lesions_of_a_damaged_record_are_found_anew(
    changes: dict[str, Any], tmp_path: Path
) -> None:
    folder, found = CohortFolder(tmp_path), found_lesions(0.3)
    work = ScanWork(folder, "sub-1")
    work.begin({})
    work.save_lesions(found)
    path = folder.work_path("sub-1") / "lesions.json"
    told = {**json.loads(path.read_bytes()), **changes}
    path.write_text(json.dumps({key: value for key, value in told.items() if value is not ...}))
    assert work.lesions(found.scan) is None
