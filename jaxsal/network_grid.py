"""From a scan's grid to the network's, where voxels have the size of its training's, and back.

Images go there by `resample`, labels by the nearest voxel, logits come back by `resample`, maps by
trilinear interpolation. A `Grid` that is the network's knows the scan's: `Grid.scan`.

Letters: X Y Z spatial axes, C channels, K outputs.
"""

from __future__ import annotations

import math

import numpy as np

from jaxsal.box import Box
from jaxsal.errors import InputError
from jaxsal.grid import Grid
from jaxsal.resampling import (
    MOST_VOXELS,
    Permit,
    Resampling,
    Spline,
    along,
    positions,
    resample,
    same_spacing,
)
from jaxsal.types import Triple

Spacing = tuple[float, float, float]

LEAST_VOXEL, MOST_VOXEL = 0.05, 20.0
"""mm, between which voxel sizes of scans lie, those of microscopes and of slabs left out."""

_ROUNDING = 1e-5  # relative, by which a header's affine may miss the voxel size that it states


def network_shape(grid: Grid, part: Box, wanted: Spacing | None, rules: Resampling) -> Triple:
    """The number of voxels (X, Y, Z) that a part of a scan's grid has on the network's.

    Args:
        grid: of the scan.
        part: of it.
        wanted: the network's voxel size, mm; None: any.
        rules: how images are resampled.
    """
    return part.shape if wanted is None else rules.shape(part.shape, spacing_of(grid), wanted)


def require_plausible(grid: Grid) -> None:
    """Raises InputError if a scan's voxels have a size that no scanner makes."""
    if not all(LEAST_VOXEL <= size <= MOST_VOXEL for size in grid.spacing):
        given = " × ".join(f"{size:.4g}" for size in grid.spacing)
        raise InputError(
            f"the image has voxels of {given} mm, and {LEAST_VOXEL:g} to {MOST_VOXEL:g} mm are "
            "taken. Repair its header, voxel sizes or units; --any-voxel-size takes it as it is"
        )


def require_permitted(
    grid: Grid, wanted: Spacing | None, rules: Resampling, permit: Permit
) -> None:
    """Raises InputError unless a scan on this grid may be resampled.

    Args:
        grid: of the scan.
        wanted: the network's voxel size, mm; None: any.
        rules: how images are resampled.
        permit: what is permitted; see `PERMITS`.
    """
    if wanted is None or permit == "any" or same_spacing(grid.spacing, wanted):
        return
    trained, given = (" × ".join(f"{s:g}" for s in sizes) for sizes in (wanted, grid.spacing))
    sizes = f"the network was trained on voxels of {trained} mm and the image has {given} mm"
    if permit == "none":
        raise InputError(f"{sizes}: resample the image, and what belongs to it, to that size first")
    voxels = math.prod(grid.shape)
    needed = math.prod(network_shape(grid, Box.whole(grid.shape), wanted, rules))
    if needed > MOST_VOXELS * voxels:
        raise InputError(
            f"{sizes}: it would have {needed:,} voxels for {voxels:,}, which is more than "
            f"{MOST_VOXELS:g} times as many. Check both voxel sizes; --allow-upsampling takes it"
        )


def image_on_network(
    image: np.ndarray, grid: Grid, part: Box, shape: Triple, spacing: Spacing, rules: Resampling
) -> tuple[np.ndarray, Grid]:
    """A part of an image (X, Y, Z, C) on the network's grid, and that grid.

    Args:
        image: on the scan's grid, float32.
        grid: of the scan.
        part: of the grid.
        shape: of the network's grid, as `network_shape` gives it.
        spacing: the network's voxel size, mm.
        rules: how images are resampled.
    """
    values = resample(part.cut(image), shape, spacing_of(grid), spacing, rules.images)
    return np.ascontiguousarray(values), grid.with_voxels(part, shape)


def logits_on_scan(logits: np.ndarray, grid: Grid, spacing: Spacing, spline: Spline) -> np.ndarray:
    """Logits (x, y, z, K) on the network's grid, on the part of the scan's that it covers.

    Args:
        logits: on the network's grid, or on part of a grid that was not resampled: then they stay.
        grid: of the network.
        spacing: the network's voxel size, mm.
        spline: how values between voxels are found.
    """
    if grid.part is None:
        return logits
    return resample(logits, grid.part.shape, spacing, spacing_of(grid.scan), spline)


def labels_on_network(labels: np.ndarray, grid: Grid) -> np.ndarray:
    """Labels (X, Y, Z) on the scan's grid, on the network's: each voxel has that of the nearest.

    A label that is nowhere the nearest stays: it gets the voxels that its own ones lie in.
    """
    if grid.part is None:
        return labels
    part, found = grid.part.cut(labels), nearest_on_network(labels, grid)
    for label in np.setdiff1d(part[part != 0], found[found != 0]):
        places = (np.argwhere(part == label) + 0.5) * np.divide(grid.shape, part.shape)
        own = tuple(np.floor(places).astype(int).T)
        free = found[own] == 0
        found[tuple(axis[free] for axis in own) if free.any() else own] = label
    return found


def nearest_on_network(values: np.ndarray, grid: Grid) -> np.ndarray:
    """Values (X, Y, Z, ...) on the scan's grid, on the network's: each voxel has the nearest's."""
    if grid.part is None:
        return values
    nearest = [
        np.floor(positions(size, new) + 0.5).astype(int).clip(0, size - 1)
        for size, new in zip(grid.part.shape, grid.shape, strict=True)
    ]
    found: np.ndarray = grid.part.cut(values)[np.ix_(*nearest)]
    return found


def map_on_grid(values: np.ndarray, own: Grid, grid: Grid) -> tuple[np.ndarray, Box]:
    """A map (x, y, z, C) on another grid in the same axes, interpolated; it is 0 around its own.

    Args:
        values: the map.
        own: its grid, such as a crop of the network's.
        grid: the other one, such as the scan's.

    Returns:
        The map (x', y', z', C) where it is not 0 of necessity, and the box of `grid` that it fills.
    """
    affine = np.linalg.solve(own.affine_mm, grid.affine_mm)
    scale, shift = np.diag(affine)[:3], affine[:3, 3]
    last = np.array(own.shape)
    start = np.floor((-1 - shift) / scale) + 1
    box = Box(start, np.ceil((last - shift) / scale)).clip(grid.shape)
    for axis, size in enumerate(own.shape):
        places = scale[axis] * np.arange(box.start[axis], box.stop[axis]) + shift[axis]
        apart = np.abs(places[:, None] - np.arange(size))
        values = along(values, axis, np.maximum(1 - apart, 0))
    return np.ascontiguousarray(values, np.float32), box


def spacing_of(grid: Grid) -> Spacing:
    """Voxel size in mm along X, Y, Z, as the header states it where its affine only rounds that.

    Numbers of voxels are rounded: a last digit may decide.
    """
    own = grid.spacing
    zooms = np.array(grid.file.header.get_zooms()[:3], np.float64)
    stated = np.empty(3)
    stated[grid.change[:, 0]] = zooms
    if len(zooms) == 3 and np.allclose(stated, own, rtol=_ROUNDING, atol=0):
        x, y, z = stated.tolist()
        return x, y, z
    return own
