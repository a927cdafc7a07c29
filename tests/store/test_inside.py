"""Names that were read from files stay inside the folder that they are relative to."""

from __future__ import annotations

from pathlib import Path

import pytest

from jaxsal.errors import InputError
from jaxsal.store.inside import remove_inside, require_inside, require_no_links


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with links to one beside it, which holds a file."""
    made, elsewhere = tmp_path / "folder", tmp_path / "elsewhere"
    (made / "sub").mkdir(parents=True)
    elsewhere.mkdir()
    (elsewhere / "victim").write_text("precious")
    (made / "link").symlink_to(elsewhere)
    (made / "sub" / "deep").symlink_to("../../elsewhere")
    (made / "file").symlink_to(elsewhere / "victim")
    (made / "alias").symlink_to("sub")
    return made


OUTSIDE = [
    *("", ".", "/", "/tmp/victim", "..", "../elsewhere/victim", "sub/../../elsewhere/victim"),
    *(
        "sub/..",
        "link/victim",
        "sub/deep/victim",
        "link/new/file",
        "a\0b",
        "C:\\victim",
        "\\victim",
    ),
    *("sub\\..\\..\\victim", None, 7),
]


@pytest.mark.parametrize("name", OUTSIDE)
def test_names_of_what_is_not_inside_are_refused_and_nothing_is_removed(
    name: str, folder: Path
) -> None:
    (folder / "own").write_text("a result")
    with pytest.raises(InputError):
        require_inside(folder, ["own", name])
    with pytest.raises(InputError):
        remove_inside(folder, ["own", name])
    assert (folder / "own").exists()
    assert (folder.parent / "elsewhere" / "victim").read_text() == "precious"


def test_names_inside_pass_also_where_the_folder_is_a_link(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "way").symlink_to(folder)
    for root in (folder, tmp_path / "way"):
        require_inside(root, ["sub/a.txt", "not/there", "alias/b", "link", "..a", ".hidden"])


def test_a_file_that_is_a_link_is_removed_and_what_it_points_at_stays(folder: Path) -> None:
    (folder / "sub" / "own").write_text("a result")
    remove_inside(folder, ["file", "link", "sub", "not/there", "sub/own/below"])
    assert sorted(path.name for path in folder.iterdir()) == ["alias", "sub"]
    assert (folder / "sub" / "own").exists()
    assert (folder.parent / "elsewhere" / "victim").read_text() == "precious"


def test_a_folder_of_jaxsals_own_holds_no_links(folder: Path, tmp_path: Path) -> None:
    require_no_links(tmp_path / "elsewhere")
    require_no_links(tmp_path / "not there")
    (tmp_path / "elsewhere" / "deep").mkdir()
    (tmp_path / "elsewhere" / "deep" / "link").symlink_to(folder)
    for place in (tmp_path / "elsewhere", folder / "alias"):
        with pytest.raises(InputError, match="symbolic link"):
            require_no_links(place)
