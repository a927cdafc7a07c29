"""Lists of result files: each with its size and SHA-256, by its name relative to a folder."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from jaxsal.errors import InputError
from jaxsal.store.files import file_checksum
from jaxsal.store.inside import require_inside

Files = dict[str, dict[str, Any]]  # by name: "bytes" and "sha256"


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
        files: the list, as it was read.
        is_own: which names results can have.

    Raises:
        InputError: one has another name or is not inside the folder, or its size or checksum is
            not there.
    """
    require_inside(folder, files)
    for name, facts in files.items():
        if not is_own(name):
            raise InputError(f"{name!r} is no name of this scan's results")
        if not (isinstance(facts.get("bytes"), int) and isinstance(facts.get("sha256"), str)):
            raise InputError(f"{name!r} is without its size or checksum")


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
