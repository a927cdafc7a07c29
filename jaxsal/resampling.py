"""Images of one voxel size brought to another one: splines along each axis, as nnU-Net v2 has them.

nnU-Net (Isensee et al. 2021) resizes with ``skimage.transform.resize(mode="edge")``, that is
`scipy.ndimage.zoom` with ``grid_mode=True``: both grids cover the same box, and values stay within
those that there were. Such a resizing acts along one axis after the other, so here it is a product
with one matrix per axis.

Letters: X Y Z spatial axes, C channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from scipy import ndimage

from jaxsal.errors import InputError, require_one_of

if TYPE_CHECKING:
    from jaxsal.types import Triple

Permit = Literal["none", "moderate", "any"]
PERMITS: tuple[Permit, ...] = get_args(Permit)
"""Which images may be resampled: none; those that grow up to `MOST_VOXELS` times; any."""

SPLINES = {"linear": 1, "cubic": 3}
"""The splines that have names, by which the command line takes them; and their order."""

MOST_VOXELS = 8.0
"""Times as many voxels as a scan has, up to which an image grows unless more is permitted."""

SAME_SPACING = 0.01
"""Relative difference up to which voxel sizes are the same: scanners round."""

_ORDERS = range(6)  # of the splines that scipy has

Spacing = tuple[float, float, float]


@dataclass(frozen=True)
class Spline:
    """How values between voxels are found.

    Attributes:
        order: of the splines: 0 the nearest value, 1 linear, 3 cubic.
        apart: whether the axis of the longest voxels is resampled by itself, slice for slice
            first; None: if they are more than `anisotropy` times as long as the shortest.
        order_apart: of the splines along that axis.
        anisotropy: see `apart`.

    Raises:
        InputError: an order is none of 0 to 5.
    """

    order: int = 3
    apart: bool | None = False
    order_apart: int = 0
    anisotropy: float = 3.0

    def __post_init__(self) -> None:
        wrong = [n for n in (self.order, self.order_apart) if n not in _ORDERS]
        if wrong:
            raise InputError(f"the order of a spline is a whole number from 0 to 5, got {wrong[0]}")

    def axis_apart(self, spacing: Spacing, wanted: Spacing) -> int | None:
        """The axis that is resampled by itself; None: there is none.

        As nnU-Net's ``determine_do_sep_z_and_axis``: where two axes share the longest voxels,
        there is none.

        Args:
            spacing: voxel size that images have, mm.
            wanted: voxel size that they are to have.
        """
        uneven = (each for each in (spacing, wanted) if max(each) > self.anisotropy * min(each))
        sizes = {True: spacing, False: None, None: next(uneven, None)}[self.apart]
        if sizes is None:
            return None
        longest = np.flatnonzero(np.max(sizes) / np.array(sizes) == 1)
        return int(longest[0]) if len(longest) == 1 else None


@dataclass(frozen=True)
class Resampling:
    """How images are brought to the network's voxel size, and its logits back to the scan's.

    Attributes:
        images: by which splines images are resampled, after they were normalised.
        logits: by which splines logits are.
        tolerance: voxel sizes are the same up to this relative difference. 0: images are resampled
            if their number of voxels changes, as in nnU-Net.
    """

    images: Spline = Spline()
    logits: Spline = Spline(order=1)
    tolerance: float = SAME_SPACING

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Resampling:
        """From what `dataclasses.asdict` makes of one.

        Raises:
            KeyError, TypeError, InputError: an entry is missing, unknown or out of its range.
        """
        others = dict(record)
        images, logits = Spline(**others.pop("images")), Spline(**others.pop("logits"))
        return cls(images, logits, **others)

    @classmethod
    def named(cls, name: str) -> Resampling:
        """By one of `SPLINES`; logits linearly.

        Raises:
            InputError: there is none of that name.
        """
        require_one_of("resample", name, tuple(SPLINES))
        return cls(Spline(SPLINES[name]))

    def shape(self, shape: Sequence[int], spacing: Spacing, wanted: Spacing) -> Triple:
        """The number of voxels of an image, (X, Y, Z), of the wanted size in mm."""
        if same_spacing(spacing, wanted, self.tolerance):
            x, y, z = shape
            return x, y, z
        return new_shape(shape, spacing, wanted)


def same_spacing(spacing: Spacing, wanted: Spacing, tolerance: float = SAME_SPACING) -> bool:
    """Whether voxel sizes are the same up to a relative difference."""
    pairs = zip(spacing, wanted, strict=True)
    return all(abs(found - size) <= tolerance * size for found, size in pairs)


def new_shape(shape: Sequence[int], spacing: Spacing, wanted: Spacing) -> Triple:
    """As nnU-Net's ``compute_new_shape``, but at least one voxel per axis."""
    x, y, z = (
        max(1, round(size / new * n)) for n, size, new in zip(shape, spacing, wanted, strict=True)
    )
    return x, y, z


def resample(
    data: np.ndarray, shape: Triple, spacing: Spacing, wanted: Spacing, spline: Spline
) -> np.ndarray:
    """Data on a grid of another number of voxels, which covers the same box.

    As nnU-Net's ``resample_data_or_seg_to_shape``.

    Args:
        data: (X, Y, Z, C), float32.
        shape: of the result's grid.
        spacing: voxel size of the data, mm.
        wanted: of the result.
        spline: how values between voxels are found.

    Returns:
        (*shape, C) float32; the data itself where the shape is that of the data.
    """
    if data.shape[:3] == tuple(shape):
        return data
    axis = spline.axis_apart(spacing, wanted)
    result = np.empty((*shape, data.shape[-1]), np.float32)
    for channel in range(data.shape[-1]):
        values = data[..., channel].astype(np.float64)
        result[..., channel] = _resampled(values, shape, spline, axis)
    return result


def _resampled(values: np.ndarray, shape: Triple, spline: Spline, axis: int | None) -> np.ndarray:
    """One channel (X, Y, Z); values stay within those of it, or of each slice across the axis."""
    together = tuple(each for each in range(3) if each != axis)
    low, high = (bound(values, axis=together, keepdims=True) for bound in (np.min, np.max))
    for each in together:
        values = along(values, each, _zoom_matrix(values.shape[each], shape[each], spline.order))
    values = np.clip(values, low, high)
    if axis is None:
        return values
    size = values.shape[axis], shape[axis]
    return along(values, axis, _map_matrix(*size, spline.order_apart))


def along(values: np.ndarray, axis: int, matrix: np.ndarray | None) -> np.ndarray:
    """The product of values (X, Y, Z, ...) with a matrix (m, n) along an axis of n of them.

    None stands for the matrix that changes nothing.
    """
    if matrix is None:
        return values
    return np.moveaxis(np.tensordot(matrix, values, axes=(1, axis)), 0, axis)


@lru_cache(maxsize=16)
def _zoom_matrix(size: int, new: int, order: int) -> np.ndarray | None:
    """(new, size) float64: what `scipy.ndimage.zoom` does along an axis."""
    if size == new:
        return None
    factors = 1 / (size / new), 1
    zoomed: np.ndarray = ndimage.zoom(
        np.eye(size), factors, order=order, mode="nearest", grid_mode=True
    )
    return zoomed


@lru_cache(maxsize=16)
def _map_matrix(size: int, new: int, order: int) -> np.ndarray | None:
    """(new, size) float64: what `scipy.ndimage.map_coordinates` does along an axis."""
    if size == new:
        return None
    places = np.meshgrid(positions(size, new), np.arange(size), indexing="ij")
    mapped: np.ndarray = ndimage.map_coordinates(np.eye(size), places, order=order, mode="nearest")
    return mapped


def positions(size: int, new: int) -> np.ndarray:
    """Where the centres of `new` voxels lie among `size` voxels over the same length; float64."""
    places: np.ndarray = float(size) / new * (np.arange(new) + 0.5) - 0.5
    return places
