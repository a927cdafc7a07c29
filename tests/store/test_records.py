"""A record of a scan names nothing but results of that scan."""

from __future__ import annotations

from pathlib import Path

import pytest

from jaxsal.cohort.storage.folder import CohortFolder
from jaxsal.cohort.storage.names import Names
from jaxsal.store.records import ScanRecord


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
