"""What is wrong with the files of one scan; imports no JAX, so that worker processes start fast."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from jaxsal.cohort.sources.problems import Problem
from jaxsal.errors import InputError
from jaxsal.grid import Grid
from jaxsal.images import as_trained, read_brain, read_images
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
        masks: its other files, such as the "reference", by what each is taken for.
    """

    id: str
    images: Mapping[str, Path]
    masks: Mapping[str, Path]


def examine(
    files: Files, preprocessing: Preprocessing | None, headers_only: bool = False
) -> list[Problem]:
    """Reads every file of a scan by the rules by which its lesions are found.

    Args:
        files: of the scan.
        preprocessing: of the model.
        headers_only: whether voxels are left unread; then damage behind headers, voxels that are
            not finite, images without contrast and empty masks are not noticed.

    Returns:
        What is wrong with each file, not only with the first.
    """
    problems: list[Problem] = []
    first: tuple[str, Grid] | None = None  # the image whose grid the others must have
    for place, (channel, path) in enumerate(files.images.items()):
        with _told(problems, files.id, channel):
            if headers_only:
                grid, note = read_grid(path), ""
            else:
                grid, note = _read(files, channel, preprocessing and preprocessing.of(place))
            if preprocessing is not None:
                as_trained(str(path), grid, preprocessing)
            first = first or (str(path), grid)
            require_same_grid(str(path), grid, *first)
            problems += [Problem(files.id, channel, note, "warning")] if note else []
    for role, path in files.masks.items():
        with _told(problems, files.id, role):
            own = read_grid(path)
            require_same_grid(str(path), own, *(first or (str(path), own)))
            if not headers_only and not _READERS[role](path, own).any():
                text = f"{path} has no lesion: give another file if there are any"
                problems.append(Problem(files.id, role, text, "warning"))
    return problems


def _read(files: Files, channel: str, preprocessing: Preprocessing | None) -> tuple[Grid, str]:
    """The grid of an image that the model can be given, and what is to be known of it."""
    path = files.images[channel]
    read = read_images([path], [channel], preprocessing, _usable_mask(files, path))
    return read.grid.file, read.notes[0]


def _usable_mask(files: Files, image: Path) -> Path | None:
    """The mask of the brain, if there is one that fits the image: if not, it has its own line."""
    mask = files.masks.get("mask")
    with suppress(InputError, OSError):
        if mask is not None and read_brain(mask, read_grid(image)).any():
            return mask
    return None


@contextmanager
def _told(problems: list[Problem], scan: str, role: str) -> Iterator[None]:
    """Adds what is wrong to the problems."""
    try:
        yield
    except (InputError, OSError, MemoryError) as error:
        problems.append(Problem(scan, role, str(error) or "there is not enough memory to read it"))
