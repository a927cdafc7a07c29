"""Masks and label maps, resampled with the image that they were drawn on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from scipy import ndimage

from jaxsal.errors import InputError
from jaxsal.grid import Grid
from jaxsal.lesions import TOUCHING
from jaxsal.preparation.settings import PreparationSettings
from jaxsal.preparation.spatial import resample_labels
from jaxsal.preparation.voxel_size import sizes
from jaxsal.same_grid import difference
from jaxsal.volumes import Volume, read_grid, read_labels, read_mask
from jaxsal.wording import counted


def carry_mask(
    role: str,
    path: Path,
    volumes: Mapping[str, Volume],
    settings: PreparationSettings,
    matrix: np.ndarray,
    onto: Grid,
) -> tuple[np.ndarray, str]:
    """Brings a mask onto the grid of the results, by its nearest voxels.

    Args:
        role: "reference" or "mask", which are masks, or "instances", a label map.
        path: of the mask.
        volumes: the scan's images as they were given, by channel.
        settings: with the image that the mask was drawn on.
        matrix: that image's transform; see `spatial`.
        onto: the grid of the results.

    Returns:
        (X, Y, Z) bool or int32, and a note on lost lesions, or "".

    Raises:
        InputError: the file cannot be used, or does not lie on that image's grid.
    """
    own, fixed = volumes[settings.masks_on], volumes[settings.fixed]
    between = f"the voxels of {fixed.path.name}"
    if onto is not fixed.grid:
        between = f"voxels of {sizes(onto.spacing)} mm"
    require_grid(path, volumes, settings)
    is_mask = role != "instances"
    labels = _lesions(read_mask(path, own.grid)) if is_mask else read_labels(path, own.grid)
    carried = resample_labels(labels, own.grid, onto, matrix)
    before = np.unique(labels[labels > 0])
    lost = np.setdiff1d(before, carried)
    note = ""
    if lost.size:
        which = "" if is_mask else f" (labels {', '.join(map(str, lost))})"
        thing = "piece" if role == "mask" else "lesion"
        lost_ones = f"{lost.size} of {counted(before.size, thing)} in {path.name}{which}"
        note = f"{lost_ones} vanished between {between}"
    return carried > 0 if is_mask else carried, note


def _lesions(mask: np.ndarray) -> np.ndarray:
    """(X, Y, Z) int32, the lesions of a mask, so that each can be looked for afterwards."""
    labels: np.ndarray = ndimage.label(mask, structure=TOUCHING)[0]
    return labels


def require_grid(path: Path, volumes: Mapping[str, Volume], settings: PreparationSettings) -> None:
    """Raises InputError unless a mask lies on the grid of the image that it was drawn on.

    Args:
        path: of the mask.
        volumes: the scan's images as they were given, by channel.
        settings: with that image.
    """
    grid, own = read_grid(path), volumes[settings.masks_on]
    if grid.matches(own.grid):
        return
    fitting = [channel for channel, volume in volumes.items() if grid.matches(volume.grid)]
    shapes = ", ".join(
        f"{channel} {volume.path} {volume.grid.shape}" for channel, volume in volumes.items()
    )
    advice = (
        f"it lies on that of {fitting[0]}: give --mask-on {fitting[0]} if it was drawn there"
        if fitting
        else f"nor does it lie on another's ({shapes}): give the mask on the grid of its image"
    )
    raise InputError(
        f"{path} {grid.shape} does not lie on the grid of {settings.masks_on}, {own.path} "
        f"{own.grid.shape}, that it was drawn on ({difference(grid, own.grid)}); {advice}."
    )
