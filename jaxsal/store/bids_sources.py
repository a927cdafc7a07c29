"""The BIDS datasets that a cohort's images come from."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxsal.store.files import read_json

DESCRIPTION = "dataset_description.json"


@dataclass(frozen=True)
class SourceDataset:
    """A dataset, or a folder of images that is none.

    Attributes:
        root: its folder.
        description: what its ``dataset_description.json`` says; empty if there is none.
    """

    root: Path
    description: Mapping[str, Any]

    @property
    def authors(self) -> list[str]:
        """Who made it, as far as it says so."""
        names = self.description.get("Authors")
        return [str(name) for name in names] if isinstance(names, list) else []


def source_datasets(images: Iterable[Path]) -> list[SourceDataset]:
    """The datasets that images lie in, by their roots; of all others, the folder that they share.

    Args:
        images: they need not be there.
    """
    known: dict[Path, Path | None] = {}
    folders = {image.absolute().parent for image in images}
    roots = {folder: _root(folder, known) for folder in folders}
    found = {root for root in roots.values() if root is not None}
    others = [folder for folder, root in roots.items() if root is None]
    if others:
        found.add(_shared(others))
    return [SourceDataset(root, read_description(root)) for root in sorted(found)]


def read_description(folder: Path) -> dict[str, Any]:
    """What a dataset's description says; empty if there is none that can be read."""
    return read_json(folder / DESCRIPTION)


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
