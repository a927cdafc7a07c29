"""Folders that appear whole or not at all."""

from __future__ import annotations

import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PREVIOUS = ".previous"


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Has a folder appear, or replaced as a whole, when the block ends without an error.

    Args:
        folder: the folder.

    Yields:
        A hidden folder beside it, to be filled.

    Raises:
        OSError: it cannot be written; an earlier one is then unchanged.
    """
    partial = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")
    try:
        partial.mkdir(parents=True)
        yield partial
        _move_into_place(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _move_into_place(partial: Path, folder: Path) -> None:
    """Renames ``partial`` to ``folder``; what was there is put back if that fails."""
    previous = partial.with_name(partial.name + _PREVIOUS)
    existed = folder.exists()
    if existed:
        folder.rename(previous)
    try:
        partial.rename(folder)
    except BaseException:
        if existed:
            previous.rename(folder)
        raise
    shutil.rmtree(previous, ignore_errors=True)


def mend_folder(folder: Path) -> None:
    """Puts back a folder that a kill caught between two names; removes half-written ones."""
    hidden = re.compile(rf"\.{re.escape(folder.name)}\.[0-9a-f]+({re.escape(_PREVIOUS)})?")
    found = [path for path in folder.parent.iterdir() if hidden.fullmatch(path.name)]
    for path in found:
        if path.name.endswith(_PREVIOUS) and not folder.exists():
            path.rename(folder)
        else:
            shutil.rmtree(path, ignore_errors=True)
