"""What is known of scans is not forgotten because their files cannot be read at the moment."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from jaxsal.inputs.entries import Scan
from jaxsal.store import records as module
from jaxsal.store.records import are_same, stamps


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
    monkeypatch.setattr(module, "file_checksum", fail)
    assert are_same(known, scan, ("t1",))


def test_a_file_that_could_not_be_read_then_is_another_now(scan: Scan) -> None:
    assert not are_same({"t1": None}, scan, ("t1",))
    scan.images[0].unlink()
    assert are_same({"t1": None}, scan, ("t1",))
