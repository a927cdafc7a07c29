"""The files of a map: one per channel of it, cropped or on the image's grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from jaxsal.grid import Grid
from jaxsal.network_grid import map_on_grid
from jaxsal.saliency.maps import Crop
from jaxsal.volumes import write_volume


def in_file(crop: Crop, grid: Grid) -> Crop:
    """A map in the network's axes as one in those of the scan's files."""
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
        full_grid: whether to write it on the scan's grid, interpolated where the image was
            resampled. Where no header says where that lies, this is done in any case: the crop
            would not lie over the scan in every viewer.
    """
    values, box, own = crop.values, crop.box, grid.crop(crop.origin, crop.box.shape)
    if full_grid or not grid.scan.is_placed:
        if grid.resampled is not None:
            values, box = map_on_grid(values, own, grid.scan)
        values, grid = box.place(values, grid.scan.shape), grid.scan
    else:
        grid = own
    for channel, path in enumerate(paths):
        write_volume(path, np.ascontiguousarray(values[..., channel]), grid)
