"""From a NIfTI file's bytes to voxels: the header first, then no more than it promises.

A file may come from anybody. Nothing is unpacked, and no memory taken, before the header has said
how much there will be, and that this is a scan.
"""

from __future__ import annotations

import gzip
import io
import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import nibabel as nib
import numpy as np
import psutil
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError

from jaxsal.errors import InputError, at_work_on
from jaxsal.grid import Grid
from jaxsal.store.files import require_content
from jaxsal.types import Triple

MOST_SHEAR = 30.0
"""Degrees by which the angle between two axes of a scan may differ from 90; of gantries' tilt."""

FARTHEST = 10_000.0
"""mm from the world's origin, within which a scan must lie."""

_LONGEST_HEADER = nib.Nifti2Header.sizeof_hdr
_DAMAGE = (HeaderDataError, WrapStructError, OSError, OverflowError, ValueError)
_CHUNK = 1 << 20  # bytes that are read at once behind the image, and may stand there
_PART = 1 << 24  # bytes that are read at once of the image
_READ = np.dtype(np.float64).itemsize  # bytes that a voxel takes when it is read, scaled


@dataclass(frozen=True, eq=False)
class _Begin:
    """What the header of a file says.

    Attributes:
        path: of the file.
        image_class: NIfTI-1 or NIfTI-2.
        header: as nibabel reads it.
        grid: where its voxels lie.
        promised: bytes, header and voxels together.
    """

    path: Path
    image_class: type[nib.Nifti1Image]
    header: nib.Nifti1Header
    grid: Grid
    promised: int


def read_header(path: Path) -> Grid:
    """Where the one 3D scan of a file lies.

    Raises:
        InputError: the file is missing, no NIfTI, or not one 3D volume of real numbers that lie in
            space as those of a scan can; or its header is damaged.
    """
    with at_work_on(path):
        return _begin(path).grid


def read_voxels(path: Path) -> tuple[np.ndarray, Grid]:
    """The scaled voxels (X, Y, Z), in the type that the file gives, and their grid.

    Raises:
        InputError: as by `read_header`, or the file is truncated, goes on behind its image, or
            holds more than this machine's memory does.
    """
    with at_work_on(path):
        return _read(_begin(path))


def _read(begin: _Begin) -> tuple[np.ndarray, Grid]:
    path = begin.path
    with _unpacked(path) as file:
        if not isinstance(file, gzip.GzipFile):
            _require_whole(begin, path.stat().st_size)
        _require_memory(begin)
        content = _read_promised(file, begin.promised)
        _require_whole(begin, len(content))
        if len(file.read(_CHUNK + 1)) > _CHUNK:
            raise InputError(
                f"{path} goes on behind its image, which ends at byte {begin.promised}, for more "
                f"than {_CHUNK:,} bytes: export it again."
            )
    try:
        image: Any = begin.image_class.from_bytes(content)
    except _DAMAGE as error:
        raise _damaged_header(path, error) from error
    return np.asanyarray(image.dataobj).reshape(begin.grid.shape), begin.grid


def _read_promised(file: IO[bytes] | gzip.GzipFile, promised: int) -> bytes:
    """As many bytes as there are, up to those promised; memory is taken for no more."""
    content = io.BytesIO()
    while part := file.read(min(_PART, promised - content.tell())):
        content.write(part)
    return content.getvalue()  # which copies nothing


def _begin(path: Path) -> _Begin:
    with _unpacked(path) as file:
        content = file.read(_LONGEST_HEADER)
    image_class = _image_class(path, content)
    header_class = image_class.header_class
    try:
        header = header_class(content[: header_class.sizeof_hdr])
        affine, offset = header.get_best_affine(), int(header.get_data_offset())
        voxels = math.prod(map(int, header.get_data_shape()))  # damaged ones are huge
        promised = offset + header.get_data_dtype().itemsize * voxels
    except _DAMAGE as error:
        raise _damaged_header(path, error) from error
    _require_voxels_behind_header(path, header, offset)
    return _Begin(path, image_class, header, _grid(path, header, affine), promised)


def _require_whole(begin: _Begin, there: int) -> None:
    if there < begin.promised:
        raise InputError(
            f"{begin.path} is truncated: its header promises {begin.promised} bytes, but it has "
            f"{there}. Copy or export it again."
        )


def _require_memory(begin: _Begin) -> None:
    needed = begin.promised + _READ * math.prod(begin.grid.shape)
    there = psutil.virtual_memory().total
    if needed > there:
        shape = " × ".join(map(str, begin.grid.shape))
        raise InputError(
            f"{begin.path} has {shape} voxels by its header, which take {needed / 2**30:,.1f} GiB "
            f"to read, and this machine has {there / 2**30:,.1f}: crop or resample it, or export "
            "it again if it is a usual scan."
        )


def _grid(path: Path, header: nib.Nifti1Header, affine: np.ndarray) -> Grid:
    """The grid of a header, if it is one of a 3D volume of real numbers, somewhere on earth."""
    shape = _spatial_shape(path, header.get_data_shape())
    if header.get_data_dtype().kind not in "iuf":
        kind = header.get_value_label("datatype")
        raise InputError(f"{path} must hold real numbers, but its type is {kind}: convert it.")
    if not _can_be_inverted(affine):
        raise InputError(f"{path} has an affine that cannot be inverted:\n{affine}\nRepair it.")
    header = header.copy()
    header.set_data_shape(shape)
    try:
        header.get_qform()
    except ValueError:  # no unit quaternion; harmless beside an sform, but it must not be written
        header["qform_code"] = 0
    grid = Grid(shape, affine, header)
    _require_place(path, grid)
    return grid


def _can_be_inverted(affine: np.ndarray) -> bool:
    if not np.all(np.isfinite(affine)):
        return False
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    with np.errstate(all="ignore"):
        volume = np.linalg.det(affine[:3, :3] / sizes)  # whatever their scale
    return bool(np.isfinite(volume) and abs(volume) > np.finfo(np.float32).eps)


def _require_place(path: Path, grid: Grid) -> None:
    """Refuses what no scanner and no registration makes."""
    axes = grid.affine_mm[:3, :3] / np.linalg.norm(grid.affine_mm[:3, :3], axis=0)
    cosines = np.abs(axes.T @ axes)[np.triu_indices(3, 1)].max()
    shear = float(np.degrees(np.arcsin(min(cosines, 1.0))))
    if shear > MOST_SHEAR:
        raise InputError(
            f"{path} has an affine whose axes are {90 - shear:.1f}° apart; up to {MOST_SHEAR:g}° "
            "off a right angle are taken. Repair it, or resample the scan to axes at right angles."
        )
    nearest = np.linalg.norm(grid.world(grid.corners), axis=1).min()
    if nearest > FARTHEST:
        raise InputError(
            f"{path} lies {nearest / 1000:.4g} m from the origin of its world; up to "
            f"{FARTHEST / 1000:g} m are taken. Repair its affine (sform and qform), or its units."
        )


def _require_voxels_behind_header(path: Path, header: nib.Nifti1Header, offset: int) -> None:
    """Refuse an offset of 0, too, which nibabel lets pass and reads the header as voxels."""
    earliest = header.single_vox_offset
    if offset < earliest:
        raise InputError(
            f"{path} must hold its voxels behind its header, from byte {earliest} on, but the "
            f"header has them begin at byte {offset} (vox_offset): export it again."
        )


def _damaged_header(path: Path, error: Exception) -> InputError:
    return InputError(f"{path} has a damaged NIfTI header: {error}. Export it again.")


@contextmanager
def _unpacked(path: Path) -> Iterator[IO[bytes] | gzip.GzipFile]:
    """Opens a file, or what is packed in it; what goes wrong in the block is the file's fault."""
    require_content(path)
    if not path.exists():
        raise InputError(f"{path} does not exist: check the name.")
    if path.is_dir():
        raise InputError(f"{path} is a folder: give a NIfTI file (.nii or .nii.gz).")
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty (0 bytes): copy or export it again.")
    try:
        with path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            if packed:
                with gzip.GzipFile(fileobj=file) as archive:
                    yield archive
            else:
                yield file
    except EOFError as error:
        raise InputError(f"{path} is truncated ({error}): copy or export it again.") from error
    except (OSError, zlib.error) as error:
        raise InputError(f"{path} cannot be read: {error}. Copy or export it again.") from error


def _image_class(path: Path, content: bytes) -> type[nib.Nifti1Image]:
    if content[344:348] == b"n+1\0":
        return nib.Nifti1Image
    if content[4:8] == b"n+2\0":
        return nib.Nifti2Image
    raise InputError(
        f"{path} is not a NIfTI file, or is cut off inside its header. Images are read from "
        "single-file NIfTI-1 and NIfTI-2 (.nii, .nii.gz) only: convert it, e.g. with dcm2niix or "
        "mri_convert."
    )


def _spatial_shape(path: Path, shape: tuple[int, ...]) -> Triple:
    if len(shape) < 3 or any(size != 1 for size in shape[3:]) or min(shape) < 1:
        raise InputError(
            f"{path} must hold one 3D volume, but its shape is {tuple(map(int, shape))} "
            f"({len(shape)}D): extract a single volume."
        )
    return int(shape[0]), int(shape[1]), int(shape[2])
