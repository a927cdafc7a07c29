"""Folders of studies: those of others are refused, before anything is written into them."""

from __future__ import annotations

from pathlib import Path

import pytest

from jaxsal.errors import InputError
from jaxsal.experiments.study import opened


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
