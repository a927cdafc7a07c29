"""Folders that runs of one command share: others' are refused, and what they hold is left alone."""

from __future__ import annotations

import errno
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from jaxsal.errors import InputError
from jaxsal.store.identity import OtherResultsError
from jaxsal.store.run_folder import RunFolder


def folder_in(root: Path, **options: Any) -> RunFolder:
    return RunFolder(root, "toy", holds="results of {}", **options)


def run(
    folder: RunFolder, identity: Mapping[str, Any], *, overwrite: bool = False
) -> tuple[list[dict[str, Any] | None], list[dict[str, Any]]]:
    """What the run went on with, and which results it removed, by their records."""
    earlier: list[dict[str, Any] | None] = []
    removed: list[dict[str, Any]] = []

    def begin(told: dict[str, Any] | None, others: bool) -> dict[str, Any]:
        assert not others
        earlier.append(told)
        return {"host": "here"}

    with folder.opened(identity, begin, removed.append, overwrite=overwrite) as killed:
        assert killed is None
    return earlier, removed


def test_a_run_of_the_same_goes_on_and_one_of_other_things_is_refused(tmp_path: Path) -> None:
    folder = folder_in(tmp_path / "new" / "out", layout=3)
    begun = {"command": "toy", "layout": 3, "identity": {"sizes": [1, 2]}, "host": "here"}
    assert run(folder, {"sizes": (1, 2)}) == ([None], [])
    assert json.loads(folder.record.read_bytes()) == begun
    assert run(folder, {"sizes": (1, 2)}) == ([begun], [])
    with pytest.raises(OtherResultsError, match=r"sizes was \[1, 2\], is \[2\]\..*--overwrite"):
        run(folder, {"sizes": [2]})
    assert run(folder, {"sizes": [2]}, overwrite=True) == ([None], [begun])
    assert folder.recorded()["identity"] == {"sizes": [2]}


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize(
    "content", ["", "[]", "{", '{"command": "other", "identity": {}}'], ids=repr
)
def test_the_results_of_another_command_are_left_alone(
    content: str, overwrite: bool, tmp_path: Path
) -> None:
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(InputError, match="holds no results of `jaxsal toy`"):
        run(folder_in(tmp_path), {}, overwrite=overwrite)
    assert (tmp_path / "run.json").read_text() == content
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


@pytest.mark.parametrize("layout", [{}, {"layout": 2}])
def test_results_of_another_version_are_begun_anew_or_not_at_all(
    layout: dict[str, int], tmp_path: Path
) -> None:
    told = {"command": "toy", **layout, "identity": {}}
    (tmp_path / "run.json").write_text(json.dumps(told))
    folder = folder_in(tmp_path, layout=3)
    for look in (folder.recorded, lambda: run(folder, {})):
        with pytest.raises(InputError, match=r"another version of jaxsal.*--overwrite"):
            look()
    assert run(folder, {}, overwrite=True) == ([None], [told])


def test_a_record_that_does_not_say_what_results_are_of_is_damaged(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"command": "toy"}')
    with pytest.raises(InputError, match=r"run\.json is damaged.*--overwrite"):
        run(folder_in(tmp_path), {})


def test_files_of_others_are_seen_before_anything_is_written(tmp_path: Path) -> None:
    for name in (".DS_Store", "README"):
        (tmp_path / name).touch()
    run(folder_in(tmp_path, harmless=["README"]), {})
    (tmp_path / "run.json").unlink()
    with pytest.raises(InputError, match="holds other files, such as README"):
        run(folder_in(tmp_path), {}, overwrite=True)
    with pytest.raises(InputError, match="is a file; give a folder"):
        run(folder_in(tmp_path / "README"), {})


def test_a_folder_above_that_cannot_be_made_is_told_as_one_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "new"))

    monkeypatch.setattr(Path, "mkdir", refuse)  # rights do not bind every user
    folder = RunFolder(tmp_path / "new" / "out", "train")
    told = r"cannot write into .*out: Permission denied"
    with pytest.raises(InputError, match=told), folder.in_use(lambda others: None):
        pass
