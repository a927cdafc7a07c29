"""The files that make a folder of results a BIDS dataset: description, README, ignored names."""

from __future__ import annotations

import getpass
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from jaxsal import __version__
from jaxsal.store.bids_sources import (
    DESCRIPTION,
    SourceDataset,
    read_description,
    source_datasets,
)
from jaxsal.store.files import whole_file, write_json

BIDS_VERSION = "1.10.0"
LAYOUT = 2  # what files are called; another number, or none: by another version of jaxsal
IGNORED = ".bidsignore"
README = "README"


@dataclass(frozen=True)
class DatasetKind:
    """A kind of results, and what describes them.

    Attributes:
        name: of the dataset.
        command: which writes it.
        readme: what is in it, for readers.
        ignored: patterns of the files that BIDS has no names for.
    """

    name: str
    command: str
    readme: str
    ignored: tuple[str, ...]


def describe(folder: Path, dataset: DatasetKind, images: Iterable[Path]) -> None:
    """Writes ``dataset_description.json``, ``README`` and ``.bidsignore`` into a folder of results.

    What users wrote into them stays: a README, further patterns, and all of the description but
    what the run itself knows, so that a name, authors and a license can be filled in.

    Args:
        folder: of the results.
        dataset: their kind.
        images: from which they are made.

    Raises:
        OutputError: they cannot be written.
    """
    sources = source_datasets(images)
    write_json(
        folder / DESCRIPTION,
        {
            "Name": dataset.name,
            "Authors": _authors(sources),
            **read_description(folder),
            "BIDSVersion": BIDS_VERSION,
            "DatasetType": "derivative",
            "GeneratedBy": [
                {
                    "Name": "jaxsal",
                    "Version": __version__,
                    "Description": f"jaxsal {dataset.command}",
                }
            ],
            "SourceDatasets": [_link(source) for source in sources],
        },
    )
    if not any(folder.glob(f"{README}*")):
        _write(folder / README, dataset.readme.splitlines())
    there = _lines(folder / IGNORED)
    if not {*dataset.ignored} <= {*there}:
        _write(folder / IGNORED, [*there, *(p for p in dataset.ignored if p not in there)])


def _authors(sources: Iterable[SourceDataset]) -> list[str]:
    """Those of the sources; where none says any, who runs the program."""
    names = [name for source in sources for name in source.authors]
    return list(dict.fromkeys(names)) or _account()


def _account() -> list[str]:
    try:
        return [getpass.getuser()]
    except (OSError, KeyError, ImportError):  # an account without a name, as in containers
        return []


def _link(source: SourceDataset) -> dict[str, str]:
    doi = source.description.get("DatasetDOI")
    return {"URL": source.root.as_uri()} | ({"DOI": doi} if isinstance(doi, str) else {})


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []


def _write(path: Path, lines: Iterable[str]) -> None:
    with whole_file(path) as file:
        file.write("".join(f"{line}\n" for line in lines).encode())
