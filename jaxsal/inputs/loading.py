"""Reads the files of a scan, as a network takes them."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from jaxsal.inputs.alignment import unregistered
from jaxsal.inputs.channel_names import named_after_others
from jaxsal.inputs.images import read_images
from jaxsal.volumes import read_labels, read_mask

if TYPE_CHECKING:
    from jaxsal.box import Box
    from jaxsal.grid import Grid
    from jaxsal.inputs.background import Background
    from jaxsal.inputs.entries import Scan
    from jaxsal.preprocessing import Preprocessing


@dataclass(frozen=True, eq=False)
class LoadedScan:
    """The contents of a scan's files.

    Attributes:
        image: (X, Y, Z, C) float32, normalised, in the axes of the network's training.
        grid: of the image; `Grid.file` is the grid of the files.
        box: the part of the image that the network is given.
        reference: (X, Y, Z) bool, the true lesions, if there is a mask of them.
        labels: (X, Y, Z) int32, the user's lesions, if there is a label map.
        notes: warnings of probable mistakes, in sentences.
        backgrounds: one per channel.
    """

    image: np.ndarray
    grid: Grid
    box: Box
    reference: np.ndarray | None = None
    labels: np.ndarray | None = None
    notes: tuple[str, ...] = ()
    backgrounds: tuple[Background, ...] = ()


class TakesImages(Protocol):
    """The images that a network takes: the name of each, and how they are preprocessed."""

    @property
    def channels(self) -> tuple[str, ...]: ...

    @property
    def preprocessing(self) -> Preprocessing | None: ...


def load_scan(scan: Scan, network: TakesImages) -> LoadedScan:
    """Reads a scan's files, the images as the network takes them.

    Raises:
        InputError: a file cannot be used.
    """
    return load_files(scan, network.channels, network.preprocessing)


def load_files(
    scan: Scan, channels: Sequence[str], preprocessing: Preprocessing | None
) -> LoadedScan:
    """Reads a scan's files, for a network that need not exist yet.

    Args:
        scan: the files.
        channels: a name per image.
        preprocessing: how the images are normalised; None: each is z-scored over the voxels that
            are not background.

    Raises:
        InputError: a file cannot be used.
    """
    read = read_images(scan.images, channels, preprocessing, scan.mask)
    reference = read_mask(scan.reference, read.grid) if scan.reference else None
    labels = read_labels(scan.instances, read.grid) if scan.instances else None
    names = (message for _, message in named_after_others(scan.images, channels))
    files = [path.name for path in scan.images]
    moved = (note for _, note in unregistered(files, read.image, read.grid))
    notes = (*names, *filter(None, read.notes), *moved)
    return LoadedScan(read.image, read.grid, read.box, reference, labels, notes, read.backgrounds)


def warn_of(notes: Iterable[str]) -> None:
    """Issues each note as a warning, at the line that called the caller."""
    for note in notes:
        warnings.warn(note, stacklevel=3)
