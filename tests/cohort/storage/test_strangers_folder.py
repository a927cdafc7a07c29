"""A cohort's folder made by a stranger: no run, status or report touches a file outside of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from helpers.cohorts import results, run
from helpers.thorough import thorough_except

from jaxsal.cohort.report import write_report
from jaxsal.cohort.status import cohort_status
from jaxsal.cohort.storage.folder import CohortFolder
from jaxsal.cohort.storage.work import ScanWork
from jaxsal.errors import InputError
from jaxsal.inputs.entries import Entry
from jaxsal.model import Model
from jaxsal.store.lock import Shard, locked

TOLD = {"bytes": 8, "sha256": "0" * 64}
OUTSIDE = ["{victim}", "../elsewhere/victim", "sub-00/link/victim"]


@pytest.fixture
def victim(tmp_path: Path) -> Iterator[Path]:
    """A file of the user's beside the folder; it stays as it is."""
    path = tmp_path / "elsewhere" / "victim"
    path.parent.mkdir()
    path.write_text("precious")
    yield path
    assert path.read_text() == "precious"
    assert list(path.parent.iterdir()) == [path]


@pytest.fixture
def out(finished: Path, victim: Path, tmp_path: Path) -> Path:
    """A finished run's folder, with a link to the victim's in it."""
    copied = tmp_path / "out"
    shutil.copytree(finished, copied)
    (copied / "sub-00" / "link").symlink_to(victim.parent)
    return copied


def change(path: Path, **changes: Any) -> None:
    """Another content of a record."""
    path.write_text(json.dumps({**json.loads(path.read_bytes()), **changes}))


def name_outside(out: Path, name: str, victim: Path) -> str:
    """Makes the first scan's record list such a file as well; returns its name."""
    path, name = CohortFolder(out).record_path("sub-00"), name.format(victim=victim)
    change(path, files={**json.loads(path.read_bytes())["files"], name: TOLD})
    return name


@pytest.mark.parametrize(
    ("overwrite", "name"),
    thorough_except(
        product([False, True], OUTSIDE),
        *((False, name) for name in OUTSIDE),
        (True, OUTSIDE[0]),
    ),
)
def test_a_scan_whose_record_names_a_file_elsewhere_is_done_again(
    overwrite: bool,
    name: str,
    out: Path,
    victim: Path,
    entries: list[Entry],
    tiny_model: Model,
    expected: dict[str, Any],
) -> None:
    name_outside(out, name, victim)
    with pytest.warns(UserWarning, match=r"sub-00\.json is damaged, its scan counts as not done"):
        found = run(tiny_model, entries[:2], out, overwrite=overwrite)
    assert {r.id: r.is_new for r in found} == {entries[0].id: True, entries[1].id: overwrite}
    after = results(out)
    assert {name for name in expected if name.startswith("sub-00")} <= set(after)
    assert all(after[name] == expected[name] for name in after if name.startswith("sub-00/anat"))


@pytest.mark.parametrize("name", OUTSIDE)
def test_status_and_report_leave_out_a_damaged_record(name: str, out: Path, victim: Path) -> None:
    name_outside(out, name, victim)
    with pytest.warns(UserWarning, match="damaged"):
        assert cohort_status(out).finished == 3
    with pytest.warns(UserWarning, match="damaged"):
        assert cohort_status(out, verify=True).damaged == [".jaxsal/scans/sub-00.json"]
    with pytest.warns(UserWarning, match="damaged"):
        report = write_report(out, pictures=False)
    assert report.statuses == {"finished": 3, "unfinished": 1}


@pytest.mark.parametrize(
    "changes",
    [
        {"stem": "sub-00/../../elsewhere"},
        {"stem": "*"},
        {"status": "?"},
        {"rows": [1]},
        {"files": 1},
    ],
)
def test_a_record_that_no_run_writes_is_damaged(changes: dict[str, Any], out: Path) -> None:
    change(CohortFolder(out).record_path("sub-00"), **changes)
    with pytest.warns(UserWarning, match="damaged"):
        assert [record.stem for record in CohortFolder(out).records()] == [
            *("sub-01", "sub-02", "sub-03")
        ]


def test_a_list_of_scans_cannot_lead_to_records_elsewhere(out: Path, victim: Path) -> None:
    folder = CohortFolder(out)
    stem = "../../../elsewhere/x"
    shutil.copy(folder.record_path("sub-00"), victim.parent / "x.json")
    change(victim.parent / "x.json", stem=stem)
    folder.list_scans({stem: "x"})
    with pytest.warns(UserWarning, match="damaged"):
        assert write_report(out).statuses == {"unfinished": 1}
    (victim.parent / "x.json").unlink()


@pytest.mark.parametrize("name", OUTSIDE)
@pytest.mark.parametrize("kind", ["record.json", "portion-00000.json"])
def test_a_work_record_moves_nothing_out_of_the_folder(
    kind: str, name: str, out: Path, victim: Path
) -> None:
    folder, name = CohortFolder(out), name.format(victim=victim)
    work = ScanWork(folder, "sub-00")
    work.begin({})
    staged = folder.work_path("sub-00") / "files" / "sub-00" / "link" / "victim"
    staged.parent.mkdir(parents=True)  # what would take the victim's place
    staged.write_text("crafted!")
    told = json.loads(folder.record_path("sub-00").read_bytes())
    (folder.work_path("sub-00") / kind).write_text(json.dumps({**told, "files": {name: TOLD}}))
    if kind == "record.json":
        with pytest.warns(UserWarning, match="damaged"):
            work.settle()
        assert not folder.work_path("sub-00").exists()
    else:
        (folder.work_path("sub-00") / kind).write_text(
            json.dumps({"rows": {}, "files": {name: TOLD}})
        )
        assert work.portion(0, ()) is None


def test_results_do_not_go_through_a_link(
    out: Path, victim: Path, entries: list[Entry], tiny_model: Model
) -> None:
    shutil.rmtree(out / "sub-01" / "anat")
    (out / "sub-01" / "anat").symlink_to(victim.parent)
    with pytest.warns(UserWarning, match="damaged"):
        found = {r.id: r for r in run(tiny_model, entries, out)}
    assert [found[entry.id].status for entry in entries[:2]] == ["finished", "failed"]
    assert "through a symbolic link" in found[entries[1].id].reason


@pytest.mark.parametrize("part", ["", "work", "claims", "locks/1-of-1.lock"])
def test_the_hidden_folder_holds_no_links(
    part: str, out: Path, victim: Path, entries: list[Entry], tiny_model: Model
) -> None:
    place = out / ".jaxsal" / part
    if place.is_dir():
        shutil.rmtree(place)
    else:
        place.unlink(missing_ok=True)
    place.symlink_to(victim if place.suffix else victim.parent)
    with pytest.raises(InputError, match="is a symbolic link, which jaxsal does not make"):
        run(tiny_model, entries, out, overwrite=True)


def test_status_opens_no_lock_that_is_a_link(out: Path, victim: Path) -> None:
    (out / ".jaxsal" / "locks" / "gate.lock").unlink(missing_ok=True)
    (out / ".jaxsal" / "locks" / "gate.lock").symlink_to(victim)
    with pytest.raises(InputError, match="symbolic link"):
        cohort_status(out)


def test_every_folder_that_is_locked_is_looked_through_for_links(
    tmp_path: Path, victim: Path
) -> None:
    """Those of trainings, experiments and prepared scans as well: they share this lock."""
    hidden = tmp_path / "out" / ".jaxsal"
    hidden.mkdir(parents=True)
    (hidden / "unfinished").symlink_to(victim.parent)
    with (
        pytest.raises(InputError, match="symbolic link"),
        locked(hidden / "locks", Shard(), lambda others: None),
    ):
        pass
