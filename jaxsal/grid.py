"""Where the voxels of a scan lie in space: shape, affine and the header that states it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import nibabel as nib
import numpy as np
from nibabel import orientations

from jaxsal.box import Box
from jaxsal.types import Triple

GRID_TOLERANCE = 0.05
"""Volumes whose corners lie no further apart than this, in voxels, are on the same grid."""

_ROUNDING = 1e-3  # voxels by which a header, in float32, may miss the affine that it states

# The spatial part of NIfTI's xyzt_units: metre, millimetre, micron; anything else is taken as mm.
_MILLIMETRES = {1: 1e3, 2: 1.0, 3: 1e-3}


_UNCHANGED = np.array([(0, 1), (1, 1), (2, 1)])


def _millimetre_header() -> nib.Nifti1Header:
    header = nib.Nifti1Header()
    header.set_xyzt_units("mm")
    return header


@dataclass(frozen=True, eq=False)
class Grid:
    """Where the voxels of a volume lie in space.

    Attributes:
        shape: number of voxels along X, Y, Z, the array axes.
        affine: (4, 4) float64, voxel index -> world, in the header's spatial units.
        header: the source's header, with its units and its sform and qform codes; mm by default.
        turned: the grid of the file, if these array axes run in other directions than its own.
        change: (3, 2) what became of each of the file's axes: its place here, and 1, or -1 where it
            is flipped. It is kept, since 45° from the world's axes an affine does not show it.
        resampled: the grid that this one was resampled from, in these axes; None: it was not.
        part: the box of that grid which this one covers.
    """

    shape: Triple
    affine: np.ndarray
    header: nib.Nifti1Header = field(default_factory=_millimetre_header)
    turned: Grid | None = None
    change: np.ndarray = field(default_factory=_UNCHANGED.copy)
    resampled: Grid | None = None
    part: Box | None = None

    @property
    def scan(self) -> Grid:
        """The grid of the scan: this one, or the one that it was resampled from."""
        return self.resampled or self

    @property
    def file(self) -> Grid:
        """The grid of the file."""
        return self.turned or self

    @property
    def axes(self) -> str:
        """Where the array axes run to, nearest to the world's: such as "LAS"."""
        axes = orientations.io_orientation(self.file.affine)[self._back[:, 0]]
        axes[:, 1] *= self._back[:, 1]
        return "".join(orientations.ornt2axcodes(axes))

    def in_axes(self, axes: str) -> Grid:
        """The same voxels, with array axes that run to these sides, such as "RAS"."""
        own = self.file
        now = orientations.io_orientation(own.affine)
        return own._changed(orientations.ornt_transform(now, orientations.axcodes2ornt(axes)))

    def _changed(self, change: np.ndarray) -> Grid:
        """The grid of a file with its axes changed, see `Grid.change`."""
        change = change.astype(int)
        if np.array_equal(change, _UNCHANGED):
            return self
        shape = np.empty(3, int)
        shape[change[:, 0]] = self.shape
        x, y, z = shape.tolist()
        affine = self.affine @ orientations.inv_ornt_aff(change, self.shape)
        return Grid((x, y, z), affine, self.header, self, change)

    @property
    def _back(self) -> np.ndarray:
        """(3, 2) as `change`, from here to the file."""
        back: np.ndarray = orientations.ornt_transform(_UNCHANGED, self.change).astype(int)
        return back

    def from_file(self, data: np.ndarray) -> np.ndarray:
        """Data (X', Y', Z', ...) in the order of the file in that of this grid: (X, Y, Z, ...)."""
        return np.ascontiguousarray(orientations.apply_orientation(data, self.change))

    def to_file(self, data: np.ndarray) -> np.ndarray:
        """Data (X, Y, Z, ...) in the order of this grid in that of the file: (X', Y', Z', ...)."""
        return np.ascontiguousarray(orientations.apply_orientation(data, self._back))

    def box_in_file(self, box: Box) -> Box:
        """Where a part of this grid lies in the file."""
        start, stop = [], []
        for (axis, flip), size in zip(self.change, self.file.shape, strict=True):
            ends = box.start[axis], box.stop[axis]
            first, past = ends if flip > 0 else (size - ends[1], size - ends[0])
            start.append(first)
            stop.append(past)
        return Box(start, stop)

    @property
    def affine_mm(self) -> np.ndarray:
        """(4, 4) float64, voxel index -> world in mm whatever the header's units."""
        scale = _MILLIMETRES.get(int(self.header["xyzt_units"]) % 8, 1.0)
        affine: np.ndarray = np.diag([scale, scale, scale, 1.0]) @ self.affine
        return affine

    @property
    def is_placed(self) -> bool:
        """Whether the header states where the voxels lie.

        If not, by neither sform nor qform, programs have rules of their own: nibabel takes the
        middle for the origin, ITK the first voxel. No header of a crop then suits them all.
        """
        if self.turned:
            return self.turned.is_placed
        coded = bool(self.header["sform_code"] > 0 or self.header["qform_code"] > 0)
        return coded or not _states_affine(self.header, self)

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel size in mm along X, Y, Z."""
        x, y, z = np.linalg.norm(self.affine_mm[:3, :3], axis=0)
        return float(x), float(y), float(z)

    @property
    def voxel_volume(self) -> float:
        """Volume of one voxel in mm³."""
        return float(abs(np.linalg.det(self.affine_mm[:3, :3])))

    def world(self, voxels: np.ndarray | Sequence[float]) -> np.ndarray:
        """World coordinates in mm of voxel indices, both (..., 3); indices may be fractional."""
        affine = self.affine_mm
        points: np.ndarray = np.asarray(voxels, np.float64) @ affine[:3, :3].T + affine[:3, 3]
        return points

    @property
    def corners(self) -> np.ndarray:
        """(8, 3) int, the indices of the voxels in the corners of the volume."""
        ends = [(0, n - 1) for n in self.shape]
        return np.stack(np.meshgrid(*ends, indexing="ij"), axis=-1).reshape(-1, 3)

    def displacement(self, other: Grid) -> float:
        """How far the same voxels of two volumes of one shape lie apart at most, in voxels.

        An affine map takes the largest distance in a corner of the volume. A distance is measured
        along the voxel axes, each in voxels of its own size: 0.3 mm are 0.1 voxel across slices of
        3 mm, and 0.3 within slices of 1 mm. Where the two have voxels of different size, the
        smaller ones count.
        """
        return max(_displaced(self, other), _displaced(other, self))

    def matches(self, other: Grid) -> bool:
        """Whether shapes are equal and no voxel is further away than `GRID_TOLERANCE`.

        This is the one rule by which volumes are taken to lie on the same grid.
        """
        # To the digits that headers hold, in float32, of places a metre from the origin.
        return self.shape == other.shape and round(self.displacement(other), 3) <= GRID_TOLERANCE

    def crop(self, origin: Triple, shape: Triple) -> Grid:
        """The grid of the box of `shape` voxels that begins at voxel `origin`.

        Both of the header's transforms move, each by its own axes. The affine is rounded to what
        the header can hold, so that a file written on the crop returns exactly this affine.

        Raises:
            ValueError: if the box is empty or does not lie inside the grid.
        """
        box = Box.at(origin, shape)
        if box.is_empty or not box.lies_within(self.shape):
            raise ValueError(f"crop at {origin} of shape {shape} leaves the grid {self.shape}")
        if self.turned:
            part = self.box_in_file(box)
            own = self.turned.crop(part.start, part.shape)
            return own._changed(self.change)
        header = _explicit_header(self)
        sform, qform = header.get_sform(coded=True)[0], header.get_qform(coded=True)[0]
        for axis, letter in enumerate("xyz"):
            if sform is not None:
                header[f"srow_{letter}"][3] = sform[axis] @ [*box.start, 1]
            if qform is not None:
                header[f"qoffset_{letter}"] = qform[axis] @ [*box.start, 1]
        header.set_data_shape(box.shape)
        return Grid(box.shape, header.get_best_affine(), header)

    def with_spacing(self, spacing: tuple[float, float, float]) -> Grid:
        """The grid of voxels of another size in the same axes, about the same centre.

        It covers the same box, up to half a voxel at each side. The header's transforms change as
        in `crop`.

        Args:
            spacing: voxel size in mm along X, Y, Z.
        """
        if self.turned:
            sizes = np.array(spacing)[self.change[:, 0]].tolist()
            return self.turned.with_spacing((sizes[0], sizes[1], sizes[2]))._changed(self.change)
        scale = np.divide(spacing, self.spacing)
        shape = np.maximum(np.rint(self.shape / scale), 1).astype(int)
        start = (np.array(self.shape) - 1 - scale * (shape - 1)) / 2
        header = self._scaled_header(scale, start, _triple(shape))
        return Grid(_triple(shape), header.get_best_affine(), header)

    def with_voxels(self, part: Box, shape: Triple) -> Grid:
        """The grid of `shape` voxels that covers a part of this one, from edge to edge.

        The header's transforms change as in `crop`; the new grid's `resampled` is this one.

        Raises:
            ValueError: if the part is empty or does not lie inside the grid.
        """
        if part.is_empty or not part.lies_within(self.shape):
            raise ValueError(f"{part} leaves the grid {self.shape}, or is empty")
        if self.turned:
            size = np.array(shape)[self.change[:, 0]]
            own = self.turned.with_voxels(self.box_in_file(part), _triple(size))
            return replace(own._changed(self.change), resampled=self, part=part)
        scale = np.divide(part.shape, shape)
        header = self._scaled_header(scale, part.start + (scale - 1) / 2, shape)
        return Grid(shape, header.get_best_affine(), header, resampled=self, part=part)

    def _scaled_header(
        self, scale: np.ndarray, start: np.ndarray, shape: Triple
    ) -> nib.Nifti1Header:
        """The header of so many voxels, each `scale` (3,) of ours, from our voxel `start` (3,)."""
        place = np.diag([*scale, 1.0])
        place[:3, 3] = start
        header = _explicit_header(self)
        sform, qform = header.get_sform(coded=True)[0], header.get_qform(coded=True)[0]
        for axis, letter in enumerate("xyz"):
            if sform is not None:
                header[f"srow_{letter}"] = sform[axis] @ place
            if qform is not None:
                header[f"qoffset_{letter}"] = qform[axis] @ place[:, 3]
        header["pixdim"][1:4] *= scale
        header.set_data_shape(shape)
        return header


def _triple(values: np.ndarray) -> Triple:
    x, y, z = values.tolist()
    return x, y, z


def _explicit_header(grid: Grid) -> nib.Nifti1Header:
    """A copy of the grid's header whose coded transforms state the grid's affine."""
    header: nib.Nifti1Header = grid.header.copy()
    # Without a code readers derive the origin from the shape, which a crop changes.
    coded = header["sform_code"] > 0 or header["qform_code"] > 0
    if not coded or not _states_affine(header, grid):
        header.set_sform(grid.affine, code="aligned")
        header.set_qform(grid.affine, code="unknown")
    return header


def _displaced(grid: Grid, other: Grid) -> float:
    """The largest distance of corners, in voxels of `grid`."""
    apart = other.world(grid.corners) - grid.world(grid.corners)
    voxels = np.linalg.solve(grid.affine_mm[:3, :3], apart.T)
    return float(np.linalg.norm(voxels, axis=0).max())


def _states_affine(header: nib.Nifti1Header, grid: Grid) -> bool:
    return _displaced(grid, Grid(grid.shape, header.get_best_affine(), header)) <= _ROUNDING
