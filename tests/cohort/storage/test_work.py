"""The unfinished results of a scan."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from jaxsal.cohort.storage.folder import CohortFolder
from jaxsal.cohort.storage.records import ScanRecord
from jaxsal.cohort.storage.work import ScanWork
from jaxsal.grid import Grid
from jaxsal.lesions import label_lesions
from jaxsal.scan.loading import LoadedScan
from jaxsal.scan.predict import Prediction

NAMES = ("sub-1/anat/a.txt", "sub-1/anat/b.txt")


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
        if Path(source).name == "a.txt":
            monkeypatch.undo()
            other.settle()
        move(source, final)

    monkeypatch.setattr(os, "replace", replace_after_the_other)
    work.publish(record)
    assert {name: (tmp_path / name).read_text() for name in NAMES} == {n: n for n in NAMES}
    assert folder.record("sub-1") == record
    assert not folder.work_path("sub-1").exists()


@pytest.mark.parametrize("threshold", [0.3, None])
def test_lesions_come_back_as_they_were_found(tmp_path: Path, threshold: float | None) -> None:
    grid = Grid((6, 4, 3), np.eye(4))
    segmented = np.zeros(grid.shape, bool)
    segmented[:, 0, 0] = segmented[2, 3, 2] = True  # a lesion, and what is too small for one
    labels, instances = label_lesions(segmented, grid, np.zeros(grid.shape, bool))
    probability = np.random.default_rng(0).random(grid.shape).astype(np.float32)
    loaded = LoadedScan(np.zeros((*grid.shape, 1), np.float32), grid, np.s_[0:6, 0:4, 0:3])
    found = Prediction(loaded, probability, threshold, segmented, labels, instances)
    work = ScanWork(CohortFolder(tmp_path), "sub-1")
    work.begin({})
    work.save_lesions(found)
    again = work.lesions(loaded)
    assert again is not None
    for name in ("probability", "segmented", "labels"):
        np.testing.assert_array_equal(getattr(again, name), getattr(found, name))
    assert (again.threshold, again.instances) == (threshold, instances)
    assert [instance.kind for instance in instances] == ["FP"]
