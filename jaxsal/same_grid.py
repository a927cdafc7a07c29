"""Two volumes on one grid: required, or said in which way they are not."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from jaxsal.errors import InputError
from jaxsal.grid import GRID_TOLERANCE, Grid

_FLIPS = {"LR": "x", "AP": "y", "IS": "z"}
_LEAST_SAID = 1e-3  # of relative sizes, cosines and voxels


def require_same_grid(name: str, grid: Grid, other_name: str, other: Grid) -> None:
    """Raises InputError, with both names and what differs, unless `Grid.matches`."""
    if not grid.matches(other):
        raise InputError(
            f"{name} and {other_name} must lie on one grid, but {difference(grid, other)}. "
            "Register or resample one to the other first."
        )


def difference(grid: Grid, other: Grid) -> str:
    """How two grids differ, in words: shape, axes, voxel size, rotation, shear and place.

    The place is that of the first voxel, the origin, as headers have it; where axes or voxels
    differ, too, that of the volume's centre. Places are in mm along the world's axes, as in NIfTI.
    """
    turned = other.in_axes(grid.axes)
    directions = [*_axes(grid, other), *_voxel_size(grid, turned), *_rotation(grid, turned)]
    point = "centre" if directions else "origin"
    found = [*_shape(grid, other), *directions, *_place(grid, turned, point)]
    if grid.shape == other.shape:
        apart = f"{grid.displacement(other):.4g} voxels apart"
        found.append(f"corners lie up to {apart}, where {GRID_TOLERANCE:g} are allowed")
    return "; ".join(found)


def _shape(grid: Grid, other: Grid) -> Iterator[str]:
    if grid.shape != other.shape:
        yield f"the shape differs, {grid.shape} against {other.shape}"


def _axes(grid: Grid, other: Grid) -> Iterator[str]:
    mine, theirs = grid.axes, other.axes
    if mine != theirs:
        pairs = ["".join(sorted(pair)) for pair in zip(mine, theirs, strict=True)]
        flipped = ", ".join(_FLIPS[pair] for pair in pairs if pair in _FLIPS)
        how = f" (flipped in {flipped})" if flipped else ""
        yield f"the axes differ, {mine} against {theirs}{how}"


def _voxel_size(grid: Grid, other: Grid) -> Iterator[str]:
    if not np.allclose(grid.spacing, other.spacing, rtol=_LEAST_SAID, atol=0):
        sizes = (" × ".join(f"{size:.5g}" for size in g.spacing) for g in (grid, other))
        yield f"the voxel size differs, {' against '.join(sizes)} mm"


def _rotation(grid: Grid, other: Grid) -> Iterator[str]:
    """A rotation, and what of the axes' directions no rotation explains."""
    (turn, stretch), (other_turn, other_stretch) = (_polar(g) for g in (grid, other))
    half_sine = np.linalg.norm(turn - other_turn) / np.sqrt(8)  # as norms of rotations have it
    if half_sine > _LEAST_SAID / 2:
        angle = np.degrees(2 * np.arcsin(min(half_sine, 1.0)))
        yield f"one is rotated by {angle:.3g}° against the other"
    if np.abs(stretch - other_stretch).max() > _LEAST_SAID:
        yield "one is sheared against the other"


def _polar(grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """The directions of the array axes (3, 3) as a rotation, or reflection, times their shear."""
    left, scale, right = np.linalg.svd(grid.affine_mm[:3, :3] / np.asarray(grid.spacing))
    return left @ right, (right.T * scale) @ right


def _place(grid: Grid, other: Grid, point: str) -> Iterator[str]:
    places = (
        g.world((np.asarray(g.shape) - 1) / 2 if point == "centre" else np.zeros(3))
        for g in (grid, other)
    )
    apart = np.abs(next(places) - next(places))
    least = _LEAST_SAID * max(min(grid.spacing), float(apart.max()))
    moved = [f"{by:.4g} mm in {axis}" for by, axis in zip(apart, "xyz", strict=True) if by > least]
    if moved:
        yield f"the {point} differs by {', '.join(moved)}"
