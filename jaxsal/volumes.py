"""NIfTI in and out: array, affine and header travel together, the orientation is kept."""

from __future__ import annotations

import gzip
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np

from jaxsal.errors import InputError
from jaxsal.grid import Grid
from jaxsal.network_grid import labels_on_network
from jaxsal.nifti import read_header, read_voxels
from jaxsal.same_grid import require_same_grid
from jaxsal.store.files import whole_file
from jaxsal.voxels import OF_LABELS, require_finite, require_none, whole_numbers

if TYPE_CHECKING:
    from jaxsal.arrays import ReadLabels, Voxels

# What a result inherits; the rest of a header (intent, display range, ...) is about the source.
_GEOMETRY = (
    *("pixdim", "xyzt_units", "qform_code", "quatern_b", "quatern_c", "quatern_d"),
    *("qoffset_x", "qoffset_y", "qoffset_z", "sform_code", "srow_x", "srow_y", "srow_z"),
)


@dataclass(frozen=True, eq=False)
class Volume:
    """One scan: data (X, Y, Z) float32 in the order of the file, its grid and its path."""

    data: np.ndarray
    grid: Grid
    path: Path


def read_volume(path: str | os.PathLike[str]) -> Volume:
    """Read one 3D scan, NIfTI-1 or NIfTI-2, compressed or not; scaling is applied.

    Returns:
        A volume with data (X, Y, Z) float32; trailing axes of length 1 are dropped.

    Raises:
        InputError: if the file is missing, damaged, not NIfTI, not one 3D volume of real numbers,
            or if a voxel is NaN or infinite.
    """
    path = Path(path)
    raw, grid = read_voxels(path)
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite: refused below
        data = np.ascontiguousarray(raw, np.float32)
    require_finite(data, str(path), "repair or mask the scan")
    return Volume(data, grid, path)


def read_grid(path: str | os.PathLike[str]) -> Grid:
    """Where one 3D scan lies, of its header alone: quick, but blind to damage behind it.

    Raises:
        InputError: if the file is missing, not NIfTI, not one 3D volume of real numbers, or its
            header is damaged.
    """
    return read_header(Path(path))


def z_score(
    volume: np.ndarray, name: str = "The image", inside: np.ndarray | None = None
) -> np.ndarray:
    """Normalise by mean and standard deviation of the voxels inside, by default those not zero.

    Args:
        volume: intensities (X, Y, Z).
        name: what an error calls the volume, e.g. its path.
        inside: (X, Y, Z) bool, what is no background.

    Returns:
        (X, Y, Z) float32, 0 in the background; the statistics (of the population) are computed in
        float64.

    Raises:
        InputError: if a voxel is not finite, or the voxels inside are none or all alike.
    """
    require_finite(volume, name, "repair or mask the scan")
    if inside is None:
        inside = volume != 0
    values = volume[inside].astype(np.float64)
    if values.size == 0:
        none = "has no voxel inside" if volume.any() else f"is zero in all {volume.size} voxels"
        raise InputError(f"{name} {none}: give a scan with content.")
    if values.min() == values.max():  # the computed deviation of equal values is not always zero
        raise InputError(
            f"{name} has the value {values[0]:g} in all {values.size} voxels that are no "
            "background and cannot be z-scored: give the scan itself, not a mask."
        )
    normalised = np.zeros(volume.shape, np.float32)
    normalised[inside] = (values - values.mean()) / values.std()
    return normalised


def read_labels(path: str | os.PathLike[str], grid: Grid) -> ReadLabels:
    """Read a label map of lesions; 0 is background.

    Returns:
        (X, Y, Z) int32, on `grid`; what lies on the scan's grid is brought there as by
        `jaxsal.network_grid.labels_on_network`. Files of any type will do, with a scale factor or
        without, if their values are those of `whole_numbers`.

    Raises:
        InputError: if the file cannot be used, lies on another grid than `grid` or the scan's that
            it was resampled from, or holds values that are fractional, negative, NaN or beyond
            int32.
    """
    labels = _read_whole_numbers(path, grid, OF_LABELS)
    limit = np.iinfo(np.int32).max
    require_none(labels > limit, labels, str(path), f"at most {limit}", "renumber the labels")
    return np.ascontiguousarray(labels, np.int32)


def read_mask(path: str | os.PathLike[str], grid: Grid) -> np.ndarray:
    """Read a mask: (X, Y, Z) bool, True where the file is not zero; otherwise as `read_labels`.

    Raises:
        InputError: if the file cannot be used, lies on another grid than `grid`, or holds negative,
            fractional, NaN or infinite values, as probabilities and images do.
    """
    return _read_whole_numbers(path, grid, "give a mask of zeros and ones") != 0


def _read_whole_numbers(path: str | os.PathLike[str], grid: Grid, advice: str) -> np.ndarray:
    """What a label map or mask holds (X, Y, Z), of any type."""
    raw, own = read_voxels(Path(path))
    scan = grid if own.matches(grid.file) else grid.scan
    require_same_grid(str(path), own, "the images", scan.file)
    found = scan.from_file(whole_numbers(raw, str(path), advice))
    return found if scan is grid else labels_on_network(found, grid)


def write_volume(path: str | os.PathLike[str], data: Voxels, grid: Grid) -> None:
    """Write data (X, Y, Z) as .nii.gz on its grid, whole or not at all.

    Data of a scan that was brought to other axes, see `Grid.in_axes`, goes back to its own. The
    file has the grid's affine, units and codes, the type of `data` (bool as uint8) and no
    scaling; equal input gives equal bytes. An existing file is replaced.

    Raises:
        InputError: if the name does not end in .nii.gz.
        OutputError: if the file cannot be written.
        ValueError: if data and grid differ in shape.
    """
    path = Path(path)
    if not path.name.lower().endswith(".nii.gz"):
        raise InputError(f"Volumes are written as .nii.gz, but the name is {path}: rename it.")
    if data.shape != grid.shape:
        raise ValueError(f"data of shape {data.shape} for a grid of shape {grid.shape}: {path}")
    data, grid = grid.to_file(np.asarray(data)), grid.file
    if data.dtype == bool:
        data = data.astype(np.uint8)
    header = type(grid.header)()
    for name in _GEOMETRY:
        header[name] = grid.header[name]
    header.set_data_dtype(data.dtype)
    header.set_data_shape(data.shape)
    image_class = nib.Nifti2Image if isinstance(header, nib.Nifti2Header) else nib.Nifti1Image
    image = image_class(data, grid.affine, header)
    # No name or time in the gzip header, for equal bytes; level 9 is many times slower than 3.
    with (
        whole_file(path) as file,
        gzip.GzipFile("", "wb", compresslevel=3, fileobj=file, mtime=0) as packed,
    ):
        packed.write(image.to_bytes())
