"""Folders appear whole or not at all, and a kill between two names is mended."""

from __future__ import annotations

from pathlib import Path

import pytest

from jaxsal.store.files import mend_folder, whole_folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "old").touch()
    return tmp_path / "model"


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_a_folder_is_replaced_as_a_whole(model: Path) -> None:
    with whole_folder(model) as partial:
        (partial / "new").touch()
        assert names(model) == ["old"]
    assert names(model.parent) == ["model", "model/new"]


def test_an_error_leaves_the_earlier_folder_and_nothing_else(model: Path) -> None:
    def fail() -> None:
        with whole_folder(model) as partial:
            (partial / "new").touch()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert names(model.parent) == ["model", "model/old"]


@pytest.mark.parametrize("moved", [False, True])
def test_what_a_kill_left_is_put_back_or_removed_and_others_files_stay(
    moved: bool, model: Path
) -> None:
    with whole_folder(model) as partial:
        pass
    partial.mkdir()
    if moved:
        model.rename(partial.with_name(f"{partial.name}.previous"))
    (model.parent / ".model.notes").touch()
    (model.parent / ".model.2024").mkdir()
    mend_folder(model)
    assert names(model.parent) == [".model.2024", ".model.notes", "model"]
