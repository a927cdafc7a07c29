"""The unfinished results of a scan."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from jaxsal.cohort.storage.folder import CohortFolder
from jaxsal.cohort.storage.records import ScanRecord
from jaxsal.cohort.storage.work import ScanWork

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
    replace = os.replace

    def replace_after_the_other(source: Path, final: Path) -> None:
        if Path(source).name == "a.txt":
            monkeypatch.undo()
            other.settle()
        replace(source, final)

    monkeypatch.setattr(os, "replace", replace_after_the_other)
    work.publish(record)
    assert {name: (tmp_path / name).read_text() for name in NAMES} == {n: n for n in NAMES}
    assert folder.record("sub-1") == record
    assert not folder.work_path("sub-1").exists()
