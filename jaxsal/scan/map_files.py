"""The files of a map: one per channel of it, cropped or on the image's grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from jaxsal.grid import Grid
from jaxsal.saliency.maps import Crop
from jaxsal.volumes import write_volume


def in_file(crop: Crop, grid: Grid) -> Crop:
    """A map on a scan's grid as one on the grid of the scan's files."""
    error = crop.standard_error
    return replace(
        crop,
        values=grid.to_file(crop.values),
        origin=grid.box_in_file(crop.box).start,
        standard_error=None if error is None else grid.to_file(error),
    )


def parts_of(crop: Crop) -> list[tuple[str, Crop]]:
    """A map and, if it is known, its standard error; each after how its files' names end."""
    if crop.standard_error is None:
        return [("", crop)]
    return [("", crop), ("_se", replace(crop, values=crop.standard_error))]


def write_maps(paths: Sequence[Path], grid: Grid, crop: Crop, *, full_grid: bool) -> None:
    """Writes a map, one file per channel of it, cropped with its affine moved or on the full grid.

    Args:
        paths: of the files, .nii.gz.
        grid: of the image.
        crop: the map.
        full_grid: whether to write it on the image's grid. Where no header says where that lies,
            this is done in any case: the crop would not lie over the image in every viewer.
    """
    values = crop.values
    if full_grid or not grid.is_placed:
        values = crop.box.place(values, grid.shape)
    else:
        grid = grid.crop(crop.origin, crop.box.shape)
    for channel, path in enumerate(paths):
        write_volume(path, np.ascontiguousarray(values[..., channel]), grid)
