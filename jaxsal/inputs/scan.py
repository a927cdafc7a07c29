"""The files of one scan, and what is read from them."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jaxsal.errors import InputError
from jaxsal.grid import Grid
from jaxsal.inputs.alignment import unregistered
from jaxsal.inputs.background import Background
from jaxsal.inputs.channel_names import is_named_after
from jaxsal.inputs.images import read_images
from jaxsal.model import Model
from jaxsal.preprocessing import Preprocessing
from jaxsal.types import Box
from jaxsal.volumes import read_labels, read_mask

OTHER_ROLES = ("reference", "instances", "mask")
"""What the files of a scan are taken for that are no images, by the names of `Scan`."""


@dataclass(frozen=True)
class Scan:
    """The files of one scan.

    Attributes:
        images: one per channel of the model, in the model's order.
        reference: a mask of the true lesions, if there is one.
        instances: a label map whose lesions are to be explained instead of predicted ones.
        mask: a mask of the brain, outside of which everything is background.
    """

    images: tuple[Path, ...]
    reference: Path | None = None
    instances: Path | None = None
    mask: Path | None = None

    def __post_init__(self) -> None:
        if self.reference and self.instances:
            raise InputError("give a reference mask or a label map of instances, not both")

    def roles(self, channels: Sequence[str]) -> dict[str, Path]:
        """The files by what each is taken for: a channel, or one of `OTHER_ROLES`."""
        return dict(zip(channels, self.images, strict=False)) | self.others

    @property
    def others(self) -> dict[str, Path]:
        """The files that are no images, by what each is taken for."""
        found = {role: getattr(self, role) for role in OTHER_ROLES}
        return {role: path for role, path in found.items() if path is not None}


@dataclass(frozen=True, eq=False)
class LoadedScan:
    """What a scan's files hold.

    Attributes:
        image: (X, Y, Z, C) float32, normalised, in the axes of the network's training.
        grid: of the image; `Grid.file` is that of the files.
        box: the part of the image that the network is given.
        reference: (X, Y, Z) bool, the true lesions, if there is a mask of them.
        labels: (X, Y, Z) int32, the user's lesions, if there is a label map.
        notes: what looks like a mistake, in sentences.
        backgrounds: of each channel.
    """

    image: np.ndarray
    grid: Grid
    box: Box
    reference: np.ndarray | None = None
    labels: np.ndarray | None = None
    notes: tuple[str, ...] = ()
    backgrounds: tuple[Background, ...] = ()


def load_scan(scan: Scan, model: Model) -> LoadedScan:
    """Reads a scan's files, the images as the model takes them.

    Raises:
        InputError: a file cannot be used.
    """
    return load_files(scan, model.channels, model.preprocessing)


def load_files(
    scan: Scan, channels: Sequence[str], preprocessing: Preprocessing | None
) -> LoadedScan:
    """Reads a scan's files, for a network that need not exist yet.

    Args:
        scan: the files.
        channels: a name per image.
        preprocessing: what the images must undergo; None: each is z-scored over what is no
            background.

    Raises:
        InputError: a file cannot be used.
    """
    read = read_images(scan.images, channels, preprocessing, scan.mask)
    reference = read_mask(scan.reference, read.grid) if scan.reference else None
    labels = read_labels(scan.instances, read.grid) if scan.instances else None
    names = (message for _, message in named_after_others(scan, channels))
    files = [path.name for path in scan.images]
    moved = (note for _, note in unregistered(files, read.image, read.grid))
    notes = (*names, *filter(None, read.notes), *moved)
    return LoadedScan(read.image, read.grid, read.box, reference, labels, notes, read.backgrounds)


def warn_of(notes: Iterable[str]) -> None:
    """Warns of each, on behalf of the caller's caller."""
    for note in notes:
        warnings.warn(note, stacklevel=3)


def named_after_others(scan: Scan, channels: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Channels whose image is named after another one, and what to say of it."""
    for channel, path in zip(channels, scan.images, strict=True):
        others = [other for other in channels if is_named_after(path.name, other)]
        if others and channel not in others:
            yield (
                channel,
                f"{path.name} is taken for the channel {channel}, but is named after {others[0]}; "
                f"give the images in the model's order: {', '.join(channels)}",
            )
