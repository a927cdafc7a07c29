"""Results as a BIDS dataset of derivatives: names of files, description, README and sources."""

from __future__ import annotations

import getpass
import os
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from jaxsal import __version__
from jaxsal.store.files import content_of, read_json, whole_file, write_json

BIDS_VERSION = "1.10.0"
LAYOUT = 2  # what files are called; another number, or none: by another version of jaxsal
IGNORED = ".bidsignore"
README = "README"
DESCRIPTION = "dataset_description.json"


def name_of(stem: str, ending: str, kind: Literal["anat", "figures"] = "anat") -> str:
    """A file's name in the folder of its kind: a session's images, or a subject's figures."""
    # Subject and session, if there is one, such as "sub-07" and "ses-01".
    folders = [part for part in stem.split("_") if part.startswith(("sub-", "ses-"))]
    folders = folders[:1] if kind == "figures" else folders
    return str(PurePosixPath(*folders, kind, f"{stem}_{ending}"))


def ending_of(stem: str, name: str, kind: Literal["anat", "figures"] = "anat") -> str:
    """The ending of which `name_of` makes this name; empty if there is none."""
    start = name_of(stem, "", kind)
    return name.removeprefix(start) if name.startswith(start) else ""


def camel_case(text: str) -> str:
    """A text as BIDS allows it for a label: "t1_gradcam++" becomes "t1Gradcamplusplus"."""
    plain = unicodedata.normalize("NFKD", text.replace("+", "plus"))  # accents by themselves
    words = re.findall(r"[A-Za-z0-9]+", plain.encode("ascii", "ignore").decode())
    first, *others = words or ["x"]
    return first + "".join(word[0].upper() + word[1:] for word in others)


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
    sources = {root: read_json(root / DESCRIPTION) for root in _sources(images)}
    write_json(
        folder / DESCRIPTION,
        {
            "Name": dataset.name,
            "Authors": _authors(sources.values()),
            **read_json(folder / DESCRIPTION),
            "BIDSVersion": BIDS_VERSION,
            "DatasetType": "derivative",
            "GeneratedBy": [
                {
                    "Name": "jaxsal",
                    "Version": __version__,
                    "Description": f"jaxsal {dataset.command}",
                }
            ],
            "SourceDatasets": [_link(root, about) for root, about in sources.items()],
        },
    )
    if not any(folder.glob(f"{README}*")):
        _write(folder / README, dataset.readme.splitlines())
    there = _lines(folder / IGNORED)
    if not {*dataset.ignored} <= {*there}:
        _write(folder / IGNORED, [*there, *(p for p in dataset.ignored if p not in there)])


def _authors(descriptions: Iterable[Mapping[str, Any]]) -> list[str]:
    """Those of the sources; where none says any, who runs the program."""
    listed = [names for each in descriptions if isinstance(names := each.get("Authors"), list)]
    return list(dict.fromkeys(str(name) for names in listed for name in names)) or _account()


def _account() -> list[str]:
    try:
        return [getpass.getuser()]
    except (OSError, KeyError, ImportError):  # an account without a name, as in containers
        return []


def _link(root: Path, description: Mapping[str, Any]) -> dict[str, str]:
    doi = description.get("DatasetDOI")
    return {"URL": root.as_uri()} | ({"DOI": doi} if isinstance(doi, str) else {})


def _lines(path: Path) -> list[str]:
    try:
        return content_of(path).decode("utf-8", "surrogateescape").splitlines()
    except OSError:  # it is not there, or no regular file
        return []


def _write(path: Path, lines: Iterable[str]) -> None:
    with whole_file(path) as file:
        text = "".join(f"{line}\n" for line in lines)
        file.write(text.encode("utf-8", "surrogateescape"))  # as `_lines` read it


def _sources(images: Iterable[Path]) -> list[Path]:
    """The datasets that images lie in; of all others, the folder that they share."""
    known: dict[Path, Path | None] = {}
    folders = {image.absolute().parent for image in images}
    roots = {folder: _root(folder, known) for folder in folders}
    found = {root for root in roots.values() if root is not None}
    others = [folder for folder, root in roots.items() if root is None]
    if others:
        found.add(_shared(others))
    return sorted(found)


def _root(folder: Path, known: dict[Path, Path | None]) -> Path | None:
    """The innermost dataset that a folder lies in; `known` spares looking at one twice."""
    if folder not in known:
        if (folder / DESCRIPTION).is_file():
            known[folder] = folder
        else:
            known[folder] = _root(folder.parent, known) if folder != folder.parent else None
    return known[folder]


def _shared(folders: Iterable[Path]) -> Path:
    try:
        return Path(os.path.commonpath(list(folders)))
    except ValueError:  # on several drives
        return min(folders)
