"""The folder of a study: known by a small file, and not mixed with what others wrote."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jaxsal import __version__
from jaxsal.experiments.catalogue import EXPERIMENTS
from jaxsal.store.files import write_json
from jaxsal.store.run_folder import RunFolder

# A study that was begun before there were marks has only its own files in its folder.
_OWN = {"runs", "scans"} | {
    f"{name}.{end}" for name in EXPERIMENTS for end in ("tsv", "png", "json")
}


@contextmanager
def opened(root: Path) -> Iterator[None]:
    """The folder in use by one experiment at a time; made if it is not there.

    Raises:
        InputError: another one is at work in it, it cannot be made, or others wrote into it.
    """
    folder = RunFolder(root, "experiment", record=".jaxsal/study.json", harmless=_OWN)
    with folder.in_use(lambda others: None):
        if not folder.record.exists():
            write_json(folder.record, {"command": "experiment", "jaxsal": __version__})
        yield
