"""The images of a BIDS folder and the entities of their names, as pybids finds them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jaxsal.errors import InputError

if TYPE_CHECKING:
    from bids.layout import BIDSLayout

PIPELINE = "pipeline"
"""An entity of our own: the folder below derivatives/ that an image lies in."""

_NOT_INDEXED = (
    re.compile(r"^/(code|models|sourcedata|stimuli)(/|$)"),  # as pybids does by default
    re.compile(r"/\."),
    re.compile(r"\.(json|tsv|tsv\.gz|bval|bvec|html|svg|txt|gii|h5|mgz)$"),  # to be quicker
)


@dataclass(frozen=True)
class Image:
    """An image file.

    Attributes:
        path: of the file.
        entities: labels by pybids's names of entities, with "suffix" and "extension".
    """

    path: Path
    entities: Mapping[str, str]

    def has(self, entities: Mapping[str, str]) -> bool:
        """Whether it has these labels; an empty one stands for none."""
        return all(self.entities.get(name, "") == label for name, label in entities.items())


def find_images(folder: Path, pipeline: str, asked: Iterable[str]) -> list[Image]:
    """Finds all NIfTI files of subjects, by their names alone.

    Args:
        folder: of the dataset, which need not be valid.
        pipeline: a folder below derivatives/ to search instead; "": none.
        asked: names of entities, which BIDS must have.

    Raises:
        InputError: pybids is not installed; there is no such folder or no such entity.
    """
    if pipeline:
        folder = folder / "derivatives" / pipeline
        if not folder.is_dir():
            raise InputError(f"{folder} does not exist, but the pipeline {pipeline} is selected")
    layout = _layout(folder.absolute())
    known = layout.get_entities()
    unknown = sorted({*asked} - {*known, PIPELINE})
    if unknown:
        raise InputError(
            f"BIDS has no entity {unknown[0]!r}; there are {', '.join(sorted({*known, PIPELINE}))}"
        )
    from bids.layout import parse_file_entities

    images = []
    for path in map(Path, layout.get(return_type="filename", extension=[".nii", ".nii.gz"])):
        # Within the dataset: the folders above may look like entities, too.
        name = f"/{path.relative_to(folder.absolute()).as_posix()}"
        found = parse_file_entities(name, entities=list(known.values()))
        entities = {key: str(label) for key, label in found.items()}
        if "subject" in entities:
            images.append(Image(path, entities | ({PIPELINE: pipeline} if pipeline else {})))
    return sorted(images, key=lambda image: image.path)


def _layout(folder: Path) -> BIDSLayout:
    try:
        from bids.layout import BIDSLayout, BIDSLayoutIndexer
    except ImportError as error:
        raise InputError(
            "reading BIDS folders needs pybids: `pip install 'jaxsal[bids]'`, or list the scans "
            "in a table (.tsv)"
        ) from error
    indexer = BIDSLayoutIndexer(validate=False, index_metadata=False, ignore=_NOT_INDEXED)
    # With the entities of derivatives, whether the folder is described as such or not at all.
    return BIDSLayout(folder, validate=False, config=["bids", "derivatives"], indexer=indexer)
