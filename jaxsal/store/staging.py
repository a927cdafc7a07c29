"""The hidden folder in which a run collects its results, and those of runs that were killed."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from pathlib import Path

from jaxsal.errors import InputError
from jaxsal.store.process import host, lives

FRESH, EARLIER = "new", "earlier"  # its folders: results, and what they replace
_NAME = re.compile(r"\.jaxsal-(?P<process>\d+)-\w+@(?P<host>.+)")
_open: set[Path] = set()  # of this process


def open_staging(folder: Path) -> Path:
    """Makes a staging folder, named after this process; removes those of killed runs.

    Raises:
        InputError: another run is writing into the folder.
    """
    name = f".jaxsal-{os.getpid()}-"
    staging = Path(tempfile.mkdtemp(prefix=name, suffix=f"@{host()}", dir=folder)).absolute()
    _open.add(staging)
    try:
        for other in sorted(folder.absolute().glob(".jaxsal-*")):
            if other != staging:
                _settle(other)
    except BaseException:
        remove_staging(staging)
        raise
    return staging


def killed_stagings(folder: Path) -> list[Path]:
    """The staging folders of runs on this host that were killed."""
    found = [(path, _NAME.fullmatch(path.name)) for path in folder.glob(".jaxsal-*")]
    return sorted(
        path
        for path, match in found
        if match is not None
        and match["host"] == host()
        and not _lives(int(match["process"]), path.absolute())
    )


def remove_staging(staging: Path) -> None:
    """Removes a staging folder of this process, unless earlier results could not go back."""
    if not _holds_files(staging / EARLIER):
        shutil.rmtree(staging, ignore_errors=True)
    _open.discard(staging)


def keep_staging(staging: Path) -> Path:
    """Gives a staging folder a name under which no later run removes it; returns its results."""
    _open.discard(staging)
    kept = staging.with_name(staging.name.replace(".jaxsal-", ".jaxsal-kept-", 1))
    try:
        staging.rename(kept)
    except OSError:  # a file system on which nothing can be changed: it stays in any case
        kept = staging
    return kept / FRESH


def _settle(other: Path) -> None:
    """Removes what a killed run on this host left; refuses to work beside a run that lives."""
    match = _NAME.fullmatch(other.name)
    if match is None or match["host"] != host():  # of other hosts' processes nothing is known
        return
    if _lives(int(match["process"]), other):
        raise InputError(
            f"another run, process {match['process']}, is writing into {other.parent}; choose "
            f"another folder, or wait for it (if there is no such run, remove {other})"
        )
    moving = (other / FRESH / "run.json").exists() or _holds_files(other / EARLIER)
    if not moving:  # killed while its results were moved up, these may be the only copy
        shutil.rmtree(other, ignore_errors=True)


def _lives(process: int, staging: Path) -> bool:
    if process == os.getpid():
        return staging in _open
    return lives(process)


def _holds_files(folder: Path) -> bool:
    return any(path.is_file() for path in folder.rglob("*"))
