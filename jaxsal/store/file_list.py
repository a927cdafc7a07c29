"""Lists of result files: each with its size and SHA-256, by its name relative to a folder.

Finished portions of a run that is not complete are kept in such a folder, to go on after: ``files``
holds their results under the names that these get in the end, and ``portion-00000.json`` the rows
of one portion and the list of its files; the record is written last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from jaxsal.errors import InputError
from jaxsal.store.files import file_checksum, read_json, write_json
from jaxsal.store.inside import require_inside
from jaxsal.store.schema import settings_from

FILES = "files"


class Facts(TypedDict):
    """What a list says of a file."""

    bytes: int
    sha256: str


Files = dict[str, Facts]  # by name


def list_files(folder: Path, names: Iterable[str]) -> Files:
    """The list of these files.

    Raises:
        OSError: one cannot be read.
    """
    return {
        name: {"bytes": (folder / name).stat().st_size, "sha256": file_checksum(folder / name)}
        for name in names
    }


def require_sound(folder: Path, files: Files, is_own: Callable[[str], bool]) -> None:
    """Refuses a list of results that cannot be one; what it names is moved and removed.

    Args:
        folder: that the names are relative to.
        files: the list.
        is_own: which names results can have.

    Raises:
        InputError: one has another name or is not inside the folder.
    """
    require_inside(folder, files)
    for name in files:
        if not is_own(name):
            raise InputError(f"{name!r} is no name of this scan's results")


def missing(folder: Path, files: Files) -> list[str]:
    """Files that are not there any more, or have another size."""
    return [name for name, facts in files.items() if _size(folder / name) != facts["bytes"]]


def damaged(folder: Path, files: Files) -> list[str]:
    """Files that are not there any more, or have another content."""
    gone = missing(folder, files)
    return [
        name
        for name, facts in files.items()
        if name in gone or file_checksum(folder / name) != facts["sha256"]
    ]


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


@dataclass(frozen=True)
class _Portion:
    """What is recorded of a portion."""

    rows: Any
    files: Files


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
    try:
        found = settings_from(_Portion, read_json(_path(folder, number)), "the portion")
        require_sound(folder / FILES, found.files, is_own)
    except InputError:
        return None
    return None if missing(folder / FILES, found.files) else (found.rows, found.files)


def portion_records(folder: Path) -> list[Path]:
    """The records of all portions in a folder."""
    return sorted(folder.glob("portion-*.json"))


def _path(folder: Path, number: int) -> Path:
    return folder / f"portion-{number:05d}.json"
