"""The files of a scan as a network takes them: images in one array, normalised, background 0."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from jaxsal.box import Box
from jaxsal.errors import InputError, warn
from jaxsal.grid import Grid
from jaxsal.inputs.alignment import unregistered
from jaxsal.inputs.background import Background, find_background, note, note_of_mask
from jaxsal.inputs.channel_names import named_after_others
from jaxsal.inputs.parcellation import Parcellation, read_parcellation
from jaxsal.network_grid import (
    image_on_network,
    nearest_on_network,
    network_shape,
    require_permitted,
    require_plausible,
)
from jaxsal.preprocessing import Preprocessing
from jaxsal.same_grid import require_same_grid
from jaxsal.volumes import Volume, read_labels, read_mask, read_volume, z_score
from jaxsal.wording import counted

if TYPE_CHECKING:
    from jaxsal.arrays import ReadImage
    from jaxsal.inputs.entries import Scan

Path = str | os.PathLike[str]


@dataclass(frozen=True, eq=False)
class Images:
    """The images of one patient, on the scan's grid or the network's.

    Attributes:
        image: (X, Y, Z, C) float32, normalised, in the network's axes.
        grid: of the image; `Grid.scan` is the scan's.
        box: the part of the image that the network is given.
        backgrounds: one per channel.
        notes: a warning of each channel's background; "" for none.
        inside: (X', Y', Z') bool on the scan's grid, where some channel is not background.
    """

    image: np.ndarray
    grid: Grid
    box: Box
    backgrounds: tuple[Background, ...]
    notes: tuple[str, ...]
    inside: np.ndarray


def read_image(
    paths: Sequence[Path],
    channels: Sequence[str],
    preprocessing: Preprocessing | None = None,
    mask: Path | None = None,
) -> tuple[ReadImage, Grid]:
    """Read the scans of one patient into the network's input.

    Args:
        paths: one file per channel, in the order of `channels`.
        channels: names of the model's channels, e.g. ("flair", "t1").
        preprocessing: of the model, such as nnU-Net's normalisation.
        mask: a mask of the brain. All outside of it becomes 0 and is background; nothing else is.

    Returns:
        The image (X, Y, Z, C) float32 and its grid. Every channel is normalised by
        `preprocessing`, or else z-scored over the voxels that are not background, which become 0
        (see `jaxsal.inputs.background.find_background`). The grid is that of the first file, its
        axes exchanged and flipped to those of `preprocessing`, if it has any. An image of another
        voxel size than that of `preprocessing` is resampled then, cropped if that says so; the
        grid's `scan` is the one that it had. Label maps and masks that are read for this grid come
        on it; `jaxsal.write_volume` writes volumes on it in the axes of the file.

    Raises:
        InputError: the number of files is wrong, a file cannot be used, two grids differ, or
            `preprocessing` does not permit the voxel size.
    """
    read = on_network_grid(read_images(paths, channels, preprocessing, mask), preprocessing)
    return read.image, read.grid


def read_scan(
    paths: Sequence[Path],
    channels: Sequence[str],
    preprocessing: Preprocessing | None = None,
    mask: Path | None = None,
) -> tuple[ReadImage, Grid, tuple[slice, slice, slice]]:
    """As `read_image`, and the part of the image that the network is given.

    Returns:
        The image (X, Y, Z, C) and its grid as `read_image` gives them, and
        the slices of `Preprocessing.box` of the image; the whole of it without `preprocessing`.
    """
    read = on_network_grid(read_images(paths, channels, preprocessing, mask), preprocessing)
    return read.image, read.grid, read.box.slices


def read_images(
    paths: Sequence[Path],
    channels: Sequence[str],
    preprocessing: Preprocessing | None = None,
    mask: Path | None = None,
) -> Images:
    """The images on the scan's grid, with all that `Images` holds; else as `read_scan`."""
    preprocessing = preprocessing or Preprocessing()
    volumes = _volumes(paths, channels)
    grid = as_trained(str(volumes[0].path), volumes[0].grid, preprocessing)
    volumes = [Volume(grid.from_file(volume.data), grid, volume.path) for volume in volumes]
    brain = None if mask is None else read_brain(mask, grid)
    found = [
        find_background(volume.data) if brain is None else _emptied(volume, ~brain)
        for volume in volumes
    ]
    if preprocessing.normalisation is None:
        inside = [~where for where, _ in found]
        scored = [z_score(v.data, str(v.path), own) for v, own in zip(volumes, inside, strict=True)]
        image, box = np.stack(scored, axis=-1), Box.whole(grid.shape)
    else:
        raw = np.stack([volume.data for volume in volumes], axis=-1)
        image, box = preprocessing.apply(raw), preprocessing.box(raw)
    schemes = preprocessing.normalisation or (None,) * len(volumes)
    notes = tuple(
        note(volume, where, background, scheme) if brain is None else note_of_mask(volume, scheme)
        for volume, (where, background), scheme in zip(volumes, found, schemes, strict=True)
    )
    inside = ~np.logical_and.reduce([where for where, _ in found])
    return Images(image, grid, box, tuple(background for _, background in found), notes, inside)


def on_network_grid(images: Images, preprocessing: Preprocessing | None) -> Images:
    """Images in the voxel size of the network's training; as they are where that is theirs.

    Where they are resampled, the new grid covers no more than what the network is given. A
    background that is 0, as z-scores leave it, stays so; splines alone would make waves in it.
    """
    known = preprocessing or Preprocessing()
    shape = network_shape(images.grid, images.box, known.spacing, known.rules)
    if known.spacing is None or shape == images.box.shape:
        return images
    place = images.grid, images.box, shape, known.spacing
    image, grid = image_on_network(images.image, *place, known.rules)
    if known.normalisation is None:
        image[~nearest_on_network(images.image != 0, grid)] = 0
    return replace(images, image=image, grid=grid, box=Box.whole(shape))


def _volumes(paths: Sequence[Path], channels: Sequence[str]) -> list[Volume]:
    """One image per channel, all on one grid."""
    if len(paths) != len(channels):
        received = ", ".join(str(path) for path in paths) or "none"
        raise InputError(
            f"The model takes {counted(len(channels), 'image')}, one per channel and in this "
            f"order: {', '.join(channels)}. Received {len(paths)}: {received}. Give one file "
            "per channel."
        )
    volumes = [read_volume(path) for path in paths]
    first = volumes[0]
    for volume in volumes[1:]:
        require_same_grid(str(volume.path), volume.grid, str(first.path), first.grid)
    return volumes


def read_brain(path: Path, grid: Grid) -> np.ndarray:
    """Read a mask of the brain: (X, Y, Z) bool.

    Raises:
        InputError: as `jaxsal.volumes.read_mask`, or the mask is empty.
    """
    brain = read_mask(path, grid)
    if not brain.any():
        raise InputError(f"{path} is empty: give a mask of the brain, 1 inside and 0 outside of it")
    return brain


def _emptied(volume: Volume, outside: np.ndarray) -> tuple[np.ndarray, Background]:
    """Sets all outside of a mask to 0, the background."""
    volume.data[outside] = 0
    return outside, Background(0.0, int(np.count_nonzero(outside)))


def as_trained(name: str, grid: Grid, preprocessing: Preprocessing) -> Grid:
    """An image's grid in the axes of the network's training.

    Raises:
        InputError: its voxels are of no scan's size, or it may not be resampled to the training's.
    """
    turned = grid.in_axes(preprocessing.orientation or grid.axes)
    try:
        if not preprocessing.any_voxel_size:
            require_plausible(turned)
        require_permitted(turned, preprocessing.spacing, preprocessing.rules, preprocessing.permit)
    except InputError as error:
        raise InputError(f"{name}: {error}") from error
    return turned


@dataclass(frozen=True, eq=False)
class LoadedScan:
    """The contents of a scan's files.

    Attributes:
        image: (X, Y, Z, C) float32, normalised, in axes and voxel size of the network's training.
        grid: of the image; `Grid.scan` is the scan's in these axes, whose `Grid.file` is that of
            the files.
        box: the part of the image that the network is given.
        reference: (X', Y', Z') bool, the true lesions on the scan's grid, if there is a mask.
        labels: (X', Y', Z') int32, the user's lesions there, if there is a label map.
        notes: warnings of probable mistakes, in sentences.
        backgrounds: one per channel.
        parcellation: the regions, if there is a parcellation.
    """

    image: np.ndarray
    grid: Grid
    box: Box
    reference: np.ndarray | None = None
    labels: np.ndarray | None = None
    notes: tuple[str, ...] = ()
    backgrounds: tuple[Background, ...] = ()
    parcellation: Parcellation | None = None

    @property
    def scan_box(self) -> Box:
        """The part of the scan's grid that the network is given."""
        return self.grid.part or self.box


def load_scan(
    scan: Scan, channels: Sequence[str], preprocessing: Preprocessing | None
) -> LoadedScan:
    """Reads a scan's files, the images as a network takes them.

    Args:
        scan: the files.
        channels: of the network, a name per image.
        preprocessing: of the network; None: each image is z-scored over the voxels that are not
            background.

    Raises:
        InputError: a file cannot be used.
    """
    read = read_images(scan.images, channels, preprocessing, scan.mask)
    reference = read_mask(scan.reference, read.grid) if scan.reference else None
    labels = read_labels(scan.instances, read.grid) if scan.instances else None
    names = (message for _, message in named_after_others(scan.images, channels))
    files = [path.name for path in scan.images]
    moved = (note for _, note in unregistered(files, read.image, read.grid))
    taken = on_network_grid(read, preprocessing)
    notes = (*names, *filter(None, read.notes), *moved, *_assumed(taken.grid, preprocessing))
    regions = None
    if scan.parcellation is not None:
        regions = read_parcellation(scan.parcellation, scan.region_names, taken.grid, read.inside)
    own = taken.image, taken.grid, taken.box
    return LoadedScan(*own, reference, labels, notes, read.backgrounds, regions)


def _assumed(grid: Grid, preprocessing: Preprocessing | None) -> Iterator[str]:
    """What to say of an image that was resampled in a way that nobody stated."""
    if grid.resampled is not None and preprocessing is not None and not preprocessing.resampling:
        had, has = (" × ".join(f"{s:.4g}" for s in g.spacing) for g in (grid.scan, grid))
        yield (
            f"the images were resampled from {had} to {has} mm by cubic splines, as the model does "
            "not say how its training's were; --resample does"
        )


def warn_of(notes: Iterable[str]) -> None:
    """Issues each note as a warning, at the line that called the caller."""
    for text in notes:
        warn(text)
