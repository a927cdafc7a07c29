"""Volumes as pages hold them: small, in their place, and off by up to 0.025 % of their peak."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from jaxsal.report.packing import pack_labels, pack_map, pack_scan

AFFINE = np.array([[0, -1.5, 0, 90], [2.0, 0, 0, -20], [0, 0, 1, 7], [0, 0, 0, 1]])


def written(path: Path, data: np.ndarray) -> Path:
    nib.save(nib.Nifti1Image(data, AFFINE), path)
    return path


def unpacked(content: bytes | None, path: Path) -> nib.Nifti1Image:
    assert content is not None
    path.write_bytes(content)
    return nib.load(path)


def test_a_map_is_cut_to_what_is_in_it_and_stays_in_place(tmp_path: Path) -> None:
    data = np.zeros((9, 8, 7), np.float32)
    data[2:5, 3:6, 1:4] = np.random.default_rng(0).normal(size=(3, 3, 3))
    packed = pack_map(written(tmp_path / "map.nii.gz", data))
    image = unpacked(packed.content, tmp_path / "packed.nii.gz")
    assert image.get_data_dtype() == np.int16
    assert image.shape == (3, 3, 3)
    np.testing.assert_allclose(image.affine @ [0, 0, 0, 1], AFFINE @ [2, 3, 1, 1], atol=1e-4)
    np.testing.assert_allclose(image.affine[:3, :3], AFFINE[:3, :3], atol=1e-6)
    peak = np.abs(data).max()
    assert packed.peak == pytest.approx(peak)
    assert np.abs(image.get_fdata() - data[2:5, 3:6, 1:4]).max() <= 2.51e-4 * peak


def test_a_map_with_nan_stays_float_and_is_counted(tmp_path: Path) -> None:
    data = np.ones((4, 4, 4), np.float32)
    data[0, 0, :2] = np.nan, np.inf
    packed = pack_map(written(tmp_path / "map.nii.gz", data))
    image = unpacked(packed.content, tmp_path / "packed.nii.gz")
    assert (packed.missing, packed.peak) == (2, 1.0)
    np.testing.assert_array_equal(image.get_fdata(), data)


@pytest.mark.parametrize(("value", "missing"), [(0.0, 0), (np.nan, 64)])
def test_of_a_map_without_numbers_there_is_nothing_to_draw(
    tmp_path: Path, value: float, missing: int
) -> None:
    packed = pack_map(written(tmp_path / "map.nii.gz", np.full((4, 4, 4), value, np.float32)))
    assert (packed.content, packed.peak, packed.missing) == (None, 0.0, missing)


def test_images_of_a_scan_are_cut_alike(tmp_path: Path) -> None:
    images = np.zeros((2, 40, 30, 30), np.int16)
    images[0, 10:12, 10:12, 10:12] = 700
    images[1, 20:23, 10:12, 10:12] = -3
    paths = [written(tmp_path / f"{n}.nii.gz", image) for n, image in enumerate(images)]
    found = [unpacked(p.content, tmp_path / f"p{n}.nii.gz") for n, p in enumerate(pack_scan(paths))]
    assert [image.shape for image in found] == [(23, 12, 12)] * 2
    np.testing.assert_allclose(found[1].get_fdata(), images[1, 5:28, 5:17, 5:17], atol=1e-3)


def test_outlines_lie_just_outside_of_each_lesion(tmp_path: Path) -> None:
    data = np.zeros((12, 12, 12), np.int32)
    data[3, 3, 3], data[8, 8, 8] = 2, 7
    labels, around = pack_labels(written(tmp_path / "labels.nii.gz", data))
    inner = unpacked(labels.content, tmp_path / "inner.nii.gz")
    outer = unpacked(around.content, tmp_path / "around.nii.gz")
    assert inner.shape == (6, 6, 6)
    assert outer.shape == (8, 8, 8)
    found = outer.get_fdata()
    assert [np.count_nonzero(found == label) for label in (2, 7)] == [6, 6]
    assert found[1, 1, 1] == 0  # of the lesion itself
