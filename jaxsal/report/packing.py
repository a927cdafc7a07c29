"""Volumes as pages hold them: cut to what is in them, as whole numbers with a scale, and packed."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import or_
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage

from jaxsal.box import Box
from jaxsal.grid import Grid
from jaxsal.nifti import read_voxels

LEVELS = 2000
"""Steps from 0 to a volume's largest magnitude: rounding takes up to 0.025 % of that."""

_MARGIN = 5  # voxels around what is not 0 in a scan


@dataclass(frozen=True, eq=False)
class Packed:
    """A volume as NIfTI.

    Attributes:
        content: of a file .nii.gz; None if it is 0 everywhere, or has no number in it.
        peak: largest magnitude.
        missing: how many voxels are NaN or infinite.
    """

    content: bytes | None
    peak: float
    missing: int = 0


def pack_scan(paths: Sequence[Path]) -> list[Packed]:
    """The images of a scan, all cut to where one of them is not 0.

    Raises:
        InputError: one cannot be read.
    """
    images = [read_voxels(path) for path in paths]
    boxes = [box for box in (_filled(data) for data, _ in images) if box is not None]
    if not boxes:
        return [Packed(None, 0.0) for _ in images]
    box = reduce(or_, boxes)
    low, high = (np.add(edge, side) for edge, side in ((box.start, -_MARGIN), (box.stop, _MARGIN)))
    return [_packed(*image, Box(low, high) & Box.whole(image[0].shape)) for image in images]


def pack_map(path: Path) -> Packed:
    """A map, cut to where it is not 0.

    Values are int16 with a scale, off by up to 0.025 % of the largest magnitude; float32 if one of
    them is NaN or infinite.

    Raises:
        InputError: it cannot be read.
    """
    data, grid = read_voxels(path)
    box = _filled(data)
    return Packed(None, 0.0) if box is None else _packed(data, grid, box)


def pack_labels(path: Path) -> tuple[Packed, Packed]:
    """A label map, and the voxels just outside each of its lesions, with the lesion's label.

    Raises:
        InputError: it cannot be read.
    """
    data, grid = read_voxels(path)
    labels = np.asarray(np.rint(data), np.int32)
    cross = ndimage.generate_binary_structure(3, 1)
    around = ndimage.maximum_filter(labels, footprint=cross, mode="constant")
    around[labels != 0] = 0
    peak = int(labels.max(initial=0))
    kind = np.int16 if peak < 2**15 else np.int32
    return _labels(labels.astype(kind), grid, peak), _labels(around.astype(kind), grid, peak)


def _labels(labels: np.ndarray, grid: Grid, peak: int) -> Packed:
    box = Box.of(labels != 0)
    return Packed(None if box is None else _nifti(box.cut(labels), grid, box, 1), peak)


def _filled(data: np.ndarray) -> Box | None:
    """The box of all that is not 0, or rounds to it."""
    finite = np.isfinite(data)
    peak = float(np.abs(data, where=finite, out=np.zeros(data.shape, np.float32)).max(initial=0))
    there = (np.abs(data) > peak / (2 * LEVELS)) | ~finite
    return Box.of(there)


def _packed(data: np.ndarray, grid: Grid, box: Box) -> Packed:
    data = np.asarray(box.cut(data), np.float32)
    finite = np.isfinite(data)
    missing = int(data.size - np.count_nonzero(finite))
    peak = float(np.abs(data[finite]).max(initial=0))
    if missing:
        return Packed(_nifti(data, grid, box, 1.0) if finite.any() else None, peak, missing)
    scale = float(np.float32(peak / LEVELS)) or 1.0
    return Packed(_nifti(np.rint(data / scale).astype(np.int16), grid, box, scale), peak)


def _nifti(data: np.ndarray, grid: Grid, box: Box, scale: float) -> bytes:
    """A file of this part of a grid; its header has one transform, in mm."""
    affine = grid.affine_mm.copy()
    affine[:3, 3] = grid.world(box.start)
    header = nib.Nifti1Header()
    header.set_data_shape(data.shape)
    header.set_data_dtype(data.dtype)
    header.set_xyzt_units("mm")
    header.set_sform(affine, code=1)
    header["pixdim"][1:4] = grid.spacing
    header["vox_offset"] = header.single_vox_offset
    header["magic"] = header.single_magic
    header["scl_slope"], header["scl_inter"] = scale, 0
    gap = bytes(header.single_vox_offset - header.sizeof_hdr)
    return gzip.compress(header.binaryblock + gap + data.tobytes(order="F"), 6, mtime=0)
