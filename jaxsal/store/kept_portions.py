"""Finished portions of a run that is not complete, kept in a folder to go on after.

``files`` holds their results under the names that these get in the end, and ``portion-00000.json``
the rows of one portion and the list of its files; the record is written last.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from jaxsal.store.file_list import Files, missing, require_sound
from jaxsal.store.files import read_json, write_json

FILES = "files"


def keep_portion(folder: Path, number: int, rows: Any, files: Files) -> None:
    """Records a portion, whose files are there.

    Args:
        folder: where portions are kept.
        number: of the portion.
        rows: its rows of the table, ready for JSON.
        files: the list of its files.
    """
    write_json(_path(folder, number), {"rows": rows, "files": files})


def kept_portion(
    folder: Path, number: int, is_own: Callable[[str], bool]
) -> tuple[Any, Files] | None:
    """The rows, which may be anything, and the files of a portion; None unless they are there.

    Args:
        folder: where portions are kept.
        number: of the portion.
        is_own: which names its files can have.
    """
    record = read_json(_path(folder, number))
    try:
        rows, files = record["rows"], record["files"]
        require_sound(folder / FILES, files, is_own)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return None if missing(folder / FILES, files) else (rows, files)


def portion_records(folder: Path) -> list[Path]:
    """The records of all portions in a folder."""
    return sorted(folder.glob("portion-*.json"))


def _path(folder: Path, number: int) -> Path:
    return folder / f"portion-{number:05d}.json"
