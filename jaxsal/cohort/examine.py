"""Finds what is wrong with the files of one scan. Imports no JAX: worker processes start fast."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jaxsal.errors import InputError
from jaxsal.grid import Grid
from jaxsal.inputs.alignment import unregistered
from jaxsal.inputs.images import Images, as_trained, read_brain, read_images
from jaxsal.inputs.problems import Problem
from jaxsal.preprocessing import Preprocessing
from jaxsal.same_grid import require_same_grid
from jaxsal.volumes import read_grid, read_labels, read_mask

_READERS = {"reference": read_mask, "instances": read_labels, "mask": read_brain}


@dataclass(frozen=True)
class Files:
    """The files of one scan.

    Attributes:
        id: of the scan.
        images: by channel, in the model's order.
        masks: its other files by role, such as "reference".
    """

    id: str
    images: Mapping[str, Path]
    masks: Mapping[str, Path]


def examine(
    files: Files, preprocessing: Preprocessing | None, headers_only: bool = False
) -> list[Problem]:
    """Reads every file of a scan, as a run does.

    Args:
        files: of the scan.
        preprocessing: of the model.
        headers_only: leave voxels unread; damage behind headers, infinite voxels, images without
            contrast and empty masks are then not found.

    Returns:
        What is wrong with each file, not only with the first.
    """
    problems: list[Problem] = []
    first: tuple[str, Grid] | None = None  # the image whose grid the others must have
    read: dict[str, Images] = {}
    for place, (channel, path) in enumerate(files.images.items()):
        with _collected(problems, files.id, channel):
            if headers_only:
                grid, note = read_grid(path), ""
            else:
                read[channel] = _read(files, channel, preprocessing and preprocessing.of(place))
                grid, note = read[channel].grid.file, read[channel].notes[0]
            if preprocessing is not None:
                as_trained(str(path), grid, preprocessing)
            first = first or (str(path), grid)
            require_same_grid(str(path), grid, *first)
            problems += [Problem(files.id, channel, note, "warning")] if note else []
    problems += [] if headers_only else _unregistered(files, read)
    for role, path in files.masks.items():
        with _collected(problems, files.id, role):
            own = read_grid(path)
            require_same_grid(str(path), own, *(first or (str(path), own)))
            if not headers_only and not _READERS[role](path, own).any():
                text = f"{path} has no lesion: give another file if there are any"
                problems.append(Problem(files.id, role, text, "warning"))
    return problems


def _read(files: Files, channel: str, preprocessing: Preprocessing | None) -> Images:
    """An image by itself, as the model is given it."""
    path = files.images[channel]
    return read_images([path], [channel], preprocessing, _usable_mask(files, path))


def _unregistered(files: Files, read: Mapping[str, Images]) -> list[Problem]:
    """Warnings of images that do not lie on the first one, where all could be read."""
    images = list(read.values())
    if len(images) < len(files.images) or len({each.image.shape for each in images}) > 1:
        return []
    names = [path.name for path in files.images.values()]
    whole = np.concatenate([each.image for each in images], axis=-1)
    found = unregistered(names, whole, images[0].grid)
    return [Problem(files.id, list(read)[place], note, "warning") for place, note in found]


def _usable_mask(files: Files, image: Path) -> Path | None:
    """The mask of the brain, if it fits the image; a mask that does not is a problem of its own."""
    mask = files.masks.get("mask")
    with suppress(InputError, OSError):
        if mask is not None and read_brain(mask, read_grid(image)).any():
            return mask
    return None


@contextmanager
def _collected(problems: list[Problem], scan: str, role: str) -> Iterator[None]:
    """Adds the error of the block to the problems."""
    try:
        yield
    except (InputError, OSError, MemoryError) as error:
        problems.append(Problem(scan, role, str(error) or "there is not enough memory to read it"))
