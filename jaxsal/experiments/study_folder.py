"""The folder of a study: one experiment at a time is at work in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from shutil import rmtree

from jaxsal import __version__
from jaxsal.errors import InputError
from jaxsal.experiments.catalogue import EXPERIMENTS
from jaxsal.store.files import write_json
from jaxsal.store.run_folder import RunFolder

# A study that was begun before there were marks has only its own files in its folder.
_OWN = {"runs", "scans"} | {
    f"{name}.{end}" for name in EXPERIMENTS for end in ("tsv", "png", "json")
}


@contextmanager
def opened(root: Path) -> Iterator[None]:
    """The folder of a study in use by one experiment at a time; made if it is not there.

    An experiment that refuses its input leaves no folder behind that it made.

    Raises:
        InputError: another one is at work in it, it cannot be made, or others wrote into it.
        OutputError: its record cannot be written.
    """
    folder = RunFolder(root, "experiment", record=".jaxsal/study.json", harmless=_OWN)
    made = [path for path in (root, *root.parents) if not path.exists()]
    try:
        with folder.in_use(lambda others: None):
            if not folder.record.exists():
                write_json(folder.record, {"command": "experiment", "jaxsal": __version__})
            yield
    except InputError:
        _remove(folder, made)
        raise


def _remove(folder: RunFolder, made: Sequence[Path]) -> None:
    """Removes folders that were made, the inmost first, unless anything was found in them.

    What cannot be removed stays, so that it is told why they were of no use.
    """
    with suppress(OSError):  # the folder itself may not have been made
        if made and _holds_nothing(folder):
            rmtree(folder.state)
    for path in made:
        with suppress(OSError):
            path.rmdir()


def _holds_nothing(folder: RunFolder) -> bool:
    """Whether there is no more than the locks and the record."""
    own = {folder.state / "locks", folder.record}
    return set(folder.root.iterdir()) == {folder.state} and own.issuperset(folder.state.iterdir())
