"""The files of one scan, and what is read from them."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from jaxsal.box import Box
from jaxsal.errors import InputError
from jaxsal.grid import Grid
from jaxsal.inputs.alignment import unregistered
from jaxsal.inputs.background import Background
from jaxsal.inputs.channel_names import named_after_others
from jaxsal.inputs.images import read_images
from jaxsal.preprocessing import Preprocessing
from jaxsal.volumes import read_labels, read_mask

OTHER_ROLES = ("reference", "instances", "mask")
"""The roles of a scan's files beside its images: attributes of `Scan`."""


@dataclass(frozen=True)
class Scan:
    """The files of one scan.

    Attributes:
        images: one per channel of the model, in the model's order.
        reference: a mask of the true lesions, if there is one.
        instances: a label map; its lesions are explained instead of predicted ones.
        mask: a mask of the brain; all outside of it is background.

    Raises:
        InputError: there are both a reference and instances.
    """

    images: tuple[Path, ...]
    reference: Path | None = None
    instances: Path | None = None
    mask: Path | None = None

    def __post_init__(self) -> None:
        if self.reference and self.instances:
            raise InputError("give a reference mask or a label map of instances, not both")

    def roles(self, channels: Sequence[str]) -> dict[str, Path]:
        """The files by role: a channel, or one of `OTHER_ROLES`."""
        return dict(zip(channels, self.images, strict=False)) | self.others

    @property
    def others(self) -> dict[str, Path]:
        """The files that are no images, by role."""
        found = {role: getattr(self, role) for role in OTHER_ROLES}
        return {role: path for role, path in found.items() if path is not None}


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
