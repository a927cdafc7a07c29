"""The progress of a cohort, read from records alone."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from jaxsal.cli.main import main
from jaxsal.cohort.status import cohort_status
from jaxsal.cohort.storage.folder import CohortFolder
from jaxsal.inputs.entries import Entry, Scan
from jaxsal.store.bids_dataset import LAYOUT
from jaxsal.store.files import write_json
from jaxsal.store.lock import Owner
from jaxsal.store.records import ScanRecord
from jaxsal.wording import counted

BEGAN = 1_000_000.0


def begin(folder: CohortFolder, scans: int) -> None:
    """Records a run over so many scans."""
    run = {"command": "cohort run", "layout": LAYOUT, "identity": {}, "scans": scans}
    write_json(folder.root / "run.json", run)


@pytest.fixture
def folder(tmp_path: Path) -> CohortFolder:
    """A cohort of ten scans, of which six were finished at these seconds after a run began."""
    made = CohortFolder(tmp_path)
    entries = [Entry(f"{i}", Scan(()), {"subject": f"{i}"}) for i in range(10)]
    made.record_path("any").parent.mkdir(parents=True)
    begin(made, len(entries))
    made.list_scans({entry.stem: entry.id for entry in entries})
    for entry, after in zip(entries, (-500, -400, 10, 11, 20, 20), strict=False):
        path = made.record_path(entry.stem)
        ScanRecord(entry.id, entry.stem, "finished", {}, seconds=10.0).write(path)
        os.utime(path, (BEGAN + after, BEGAN + after))
    return made


def test_the_time_left_goes_by_how_many_scans_the_runs_of_now_have_finished(
    folder: CohortFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two devices finished four scans in 20 s, so that four others take 20 s and not 40 s."""
    assert cohort_status(folder.root).seconds_left is None  # nobody is at work
    since = datetime.fromtimestamp(BEGAN, UTC).isoformat()
    monkeypatch.setattr(CohortFolder, "runs", lambda _: {"1/1": Owner("here", 1, since, BEGAN)})
    assert cohort_status(folder.root).seconds_left == pytest.approx(20)


@pytest.mark.parametrize("listed", [{"sub-0": "0"}, {"sub-0": "0", "sub-1": "another"}])
def test_scans_that_are_not_of_the_cohort_any_more_are_counted_apart(
    listed: dict[str, str], folder: CohortFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    folder.list_scans(listed)
    begin(folder, len(listed))
    status = cohort_status(folder.root)
    assert (status.finished, status.others, status.left) == (1, 5, len(listed) - 1)
    assert main(["cohort", "status", str(folder.root)]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"{counted(len(listed), 'scan')}: 1 finished (0 lesions), 0 failed, ")
    assert "results of 5 scans not of the cohort any more" in said
