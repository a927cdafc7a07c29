"""NIfTI files of strangers: no more is unpacked than the header promises, and it must be a scan."""

from __future__ import annotations

import gzip
import re
import struct
from pathlib import Path

import nibabel as nib
import numpy as np
import psutil
import pytest

from jaxsal.errors import InputError
from jaxsal.nifti import read_header, read_voxels

SHAPE = (5, 6, 7)


def _content(affine: np.ndarray | None = None) -> bytes:
    voxels = np.arange(210, dtype=np.float32).reshape(SHAPE)
    content: bytes = nib.Nifti1Image(voxels, np.eye(4) if affine is None else affine).to_bytes()
    return content


def _with_shape(*shape: int) -> bytes:
    """A NIfTI-2 file whose header promises more voxels than there are."""
    content = bytearray(nib.Nifti2Image(np.zeros(SHAPE, np.float32), np.eye(4)).to_bytes())
    struct.pack_into("<3q", content, 24, *shape)
    return bytes(content)


@pytest.mark.parametrize("behind", [0, 16, 1 << 20])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_some_bytes_may_stand_behind_the_image(tmp_path, pack, behind):
    (tmp_path / "scan.nii").write_bytes(pack(_content() + bytes(behind)))
    voxels, grid = read_voxels(tmp_path / "scan.nii")
    assert grid.shape == voxels.shape == SHAPE


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_file_that_goes_on_behind_its_image_is_refused(tmp_path, pack):
    path = tmp_path / "scan.nii"
    path.write_bytes(pack(_content() + bytes((1 << 20) + 1)))
    with pytest.raises(InputError, match=r"scan.nii goes on behind its image.* byte 1192"):
        read_voxels(path)


def test_a_packed_file_is_not_unpacked_further_than_to_its_image(tmp_path):
    """Broken bytes far behind the image are never reached."""
    packed = gzip.compress(_content() + bytes(64 << 20))
    (tmp_path / "scan.nii.gz").write_bytes(packed[:-30_000] + b"\xff" * 30_000)
    with pytest.raises(InputError, match="goes on behind its image"):
        read_voxels(tmp_path / "scan.nii.gz")


def test_more_voxels_than_memory_holds_are_refused_before_they_are_unpacked(tmp_path):
    path, side = tmp_path / "scan.nii.gz", 100_000
    path.write_bytes(gzip.compress(_with_shape(side, side, side)))
    there = f"{psutil.virtual_memory().total / 2**30:,.1f}"
    with pytest.raises(InputError, match=rf"{side} × {side} × {side} voxels.*{re.escape(there)}"):
        read_voxels(path)


def _sheared(degrees: float) -> np.ndarray:
    affine = np.eye(4)
    affine[0, 1], affine[1, 1] = np.sin(np.deg2rad(degrees)), np.cos(np.deg2rad(degrees))
    return affine


def _moved(*place: float) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, 3] = place
    return affine


@pytest.mark.parametrize("degrees", [-29.0, 5.0, 29.0])
def test_axes_may_be_sheared_as_by_a_tilted_gantry(tmp_path, degrees):
    (tmp_path / "scan.nii").write_bytes(_content(_sheared(degrees)))
    assert read_header(tmp_path / "scan.nii").shape == SHAPE


IMPOSSIBLE = {
    "sheared": (_sheared(31), r"axes are 59.0° apart; up to 30°"),
    "sheared the other way": (_sheared(-50), r"axes are 40.0° apart"),
    "far away": (_moved(0, 11_000, 0), r"lies 11 m from the origin"),
    "flat": (np.diag([1.0, 1.0, 0.0, 1.0]), "cannot be inverted"),
    "nearly flat": (_sheared(90 - 1e-6), "cannot be inverted"),
    "infinite": (_moved(np.inf, 0, 0), "cannot be inverted"),
}


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_an_affine_that_no_scan_has_is_refused(tmp_path, name):
    affine, said = IMPOSSIBLE[name]
    content = bytearray(_content())
    struct.pack_into("<h", content, 254, 1)  # sform_code
    struct.pack_into("<12f", content, 280, *affine[:3].ravel())
    path = tmp_path / "scan.nii"
    path.write_bytes(content)
    for read in (read_header, read_voxels):
        with pytest.raises(InputError, match=f"{re.escape(str(path))}.*{said}"):
            read(path)


@pytest.mark.parametrize("scale", [1e-15, 1e-3, 1e3])
def test_an_affine_is_inverted_whatever_its_scale(tmp_path: Path, scale):
    affine = np.diag([scale, scale, scale, 1.0])
    (tmp_path / "scan.nii").write_bytes(_content(affine))
    assert read_header(tmp_path / "scan.nii").spacing == pytest.approx((scale,) * 3)
