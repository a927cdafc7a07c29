"""The folder of a study: known by a small file, and not mixed with what others wrote."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jaxsal import __version__
from jaxsal.errors import InputError
from jaxsal.experiments.settings import SETTINGS
from jaxsal.store.files import write_json
from jaxsal.store.lock import Shard, locked

_OWN = {"runs", "scans"} | {f"{name}.{end}" for name in SETTINGS for end in ("tsv", "png", "json")}


@contextmanager
def opened(root: Path) -> Iterator[None]:
    """The folder in use by one experiment at a time; made if it is not there.

    Raises:
        InputError: another one is at work in it, it cannot be made, or others wrote into it.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"cannot make the folder {root}: {error.strerror}; give another one"
        ) from error
    mark = root / ".jaxsal" / "study.json"
    _check_content(root, mark)
    with locked(root / ".jaxsal" / "locks", Shard(), lambda others: None):
        if not mark.exists():
            write_json(mark, {"command": "experiment", "jaxsal": __version__})
        yield


def _check_content(root: Path, mark: Path) -> None:
    names = {path.name for path in root.iterdir() if not path.name.startswith(".")}
    foreign = sorted(names - _OWN)  # one that was begun before there were marks has its own only
    if foreign and not mark.exists():
        raise InputError(
            f"{root} holds other files, such as {foreign[0]}; give experiments a new or empty "
            "folder, or one that an experiment was begun in"
        )
