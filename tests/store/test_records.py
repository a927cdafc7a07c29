"""What is known of scans is not forgotten because their files cannot be read at the moment."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from jaxsal.cohort.storage.folder import CohortFolder
from jaxsal.cohort.storage.names import Names
from jaxsal.inputs.scan import Scan
from jaxsal.store import records
from jaxsal.store.records import ScanRecord, are_same, stamps


@pytest.fixture
def scan(tmp_path: Path) -> Scan:
    path = tmp_path / "t1.nii.gz"
    path.write_bytes(b"voxels")
    return Scan((path,))


@pytest.mark.parametrize("code", [errno.EACCES, errno.EIO, errno.ESTALE])
def test_a_file_that_cannot_be_reached_counts_as_the_same(
    code: int, scan: Scan, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = stamps(scan, ("t1",))

    def fail(*_: Any, **__: Any) -> Any:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "stat", fail)
        assert are_same(known, scan, ("t1",))
    os.utime(scan.images[0], (1, 1))
    monkeypatch.setattr(records, "file_checksum", fail)
    assert are_same(known, scan, ("t1",))


def test_a_file_that_could_not_be_read_then_is_another_now(scan: Scan) -> None:
    assert not are_same({"t1": None}, scan, ("t1",))
    scan.images[0].unlink()
    assert are_same({"t1": None}, scan, ("t1",))


@pytest.mark.parametrize(
    "name",
    ["README", "run.json", ".jaxsal/scans/sub-02.json", "sub-01/notes.txt", Names("sub-02").table],
)
def test_a_record_that_names_a_file_of_others_is_damaged(name: str, tmp_path: Path) -> None:
    folder = CohortFolder(tmp_path)
    folder.record_path("sub-01").parent.mkdir(parents=True)
    files = {Names("sub-01").table: {"bytes": 1, "sha256": ""}, name: {"bytes": 1, "sha256": ""}}
    ScanRecord("1", "sub-01", "finished", {}, files=files).write(folder.record_path("sub-01"))
    with pytest.warns(UserWarning, match="is no name of this scan's results"):
        assert folder.record("sub-01") is None
