"""Folders of studies: those of others are refused, before anything is written into them."""

from __future__ import annotations

from pathlib import Path

import pytest

from jaxsal.errors import InputError
from jaxsal.experiments.study_folder import opened


def names(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*"))


@pytest.mark.parametrize(
    "there", ["run.json", "scans.tsv", "sub-01/anat", ".jaxsal/locks,run.json"]
)
def test_a_folder_of_others_is_refused_and_left_as_it_is(there: str, tmp_path: Path) -> None:
    for name in there.split(","):
        (tmp_path / name).mkdir(parents=True)
    before = names(tmp_path)
    told = r"holds other files, such as (run|scans|sub-01)"
    with pytest.raises(InputError, match=told), opened(tmp_path):
        pass
    assert names(tmp_path) == before


@pytest.mark.parametrize("there", ["", "runs/lesions", ".jaxsal/locks", "groups.tsv", "scans"])
def test_an_empty_folder_or_one_of_a_study_is_used(there: str, tmp_path: Path) -> None:
    (tmp_path / "out" / there).mkdir(parents=True)
    with opened(tmp_path / "out"):
        pass


def test_a_study_is_known_whatever_else_is_there(tmp_path: Path) -> None:
    with opened(tmp_path / "new" / "out"):
        pass
    (tmp_path / "new" / "out" / "notes.txt").touch()
    with opened(tmp_path / "new" / "out"):
        pass


def test_refused_input_leaves_no_folder_behind(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such layer"), opened(tmp_path / "new" / "out"):
        raise InputError("no such layer")
    assert names(tmp_path) == []


@pytest.mark.parametrize("out", ["file/out", "file/new/out"])
def test_a_folder_that_cannot_be_made_is_what_is_told(out: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot write into"), opened(tmp_path / out):
        pass
    assert names(tmp_path) == ["file"]


def test_folders_that_were_made_on_the_way_to_one_that_cannot_be_are_removed(
    tmp_path: Path,
) -> None:
    out = tmp_path / "new" / ("x" * 300)  # longer than any name may be
    with pytest.raises(InputError, match="cannot write into"), opened(out):
        pass
    assert names(tmp_path) == []


def test_a_folder_that_cannot_be_removed_does_not_hide_the_refusal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "rmdir", fail)
    with pytest.raises(InputError, match="no such layer"), opened(tmp_path / "out"):
        raise InputError("no such layer")


@pytest.mark.parametrize("there", ["out/groups.tsv", "out/.jaxsal/groups", "out"])
def test_refused_input_leaves_what_was_there(there: str, tmp_path: Path) -> None:
    (tmp_path / there).mkdir(parents=True)
    with pytest.raises(InputError, match="no such layer"), opened(tmp_path / "out"):
        raise InputError("no such layer")
    assert (tmp_path / there).is_dir()


@pytest.mark.parametrize("written", ["groups.tsv", "runs", ".jaxsal/groups"])
def test_what_was_found_before_input_is_refused_stays(written: str, tmp_path: Path) -> None:
    def find_then_refuse() -> None:
        with opened(tmp_path / "out"):
            (tmp_path / "out" / written).mkdir()
            raise InputError("no such layer")

    with pytest.raises(InputError, match="no such layer"):
        find_then_refuse()
    assert (tmp_path / "out" / written).is_dir()
