"""Scans brought to another voxel size: where their voxels lie, and what they hold."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from helpers.moved_heads import (
    T1_AFFINE,
    T1_SHAPE,
    flair_of,
    lesion,
    make_head,
    points,
    save,
    tissue,
)
from helpers.tiny import load, read_table
from nibabel.affines import apply_affine, from_matvec
from scipy.ndimage import affine_transform, center_of_mass, zoom

from jaxsal.cli.main import main

ALONE = ["--skip-registration", "--skip-bias", "--channels", "t1", "--processes", "1"]
SHIFTS = [(0, 0), *((by, axis) for axis in range(3) for by in (-1, 1))]
SIZE = 4.0  # mm; the head's T1 has voxels of 2.5 × 2.5 × 2.6 mm


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return make_head(tmp_path_factory.mktemp("head") / "a", 1)


def table(folder: Path, **files: Path) -> str:
    path = folder / "scans.tsv"
    rows = [["scan", *files], ["a", *map(str, files.values())]]
    path.write_text("\n".join(map("\t".join, rows)), encoding="utf-8")
    return str(path)


@pytest.fixture(scope="module")
def coarse(head: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scan registered and resampled, with its lesions; the folder of its images."""
    folder = tmp_path_factory.mktemp("coarse")
    options = ["--out", str(folder / "out"), "--mask-on", "flair", "--voxel-size", f"{SIZE}"]
    assert main(["preprocess", table(folder, **head), *options, "--skip-bias"]) == 0
    return folder / "out" / "sub-a" / "anat"


@pytest.mark.parametrize("name", ["desc-preproc_FLAIR", "desc-preproc_T1w", "label-lesion_mask"])
def test_results_have_the_size_the_axes_and_the_centre(coarse: Path, name: str) -> None:
    image = nib.load(coarse / f"sub-a_{name}.nii.gz")
    expected = np.rint(np.array(T1_SHAPE) * (2.5, 2.5, 2.6) / SIZE)
    np.testing.assert_array_equal(image.shape, expected)
    np.testing.assert_allclose(image.header.get_zooms(), SIZE, rtol=1e-6)
    for matrix in (image.header.get_sform(), image.header.get_qform()):
        directions = T1_AFFINE[:3, :3] / (2.5, 2.5, 2.6)
        np.testing.assert_allclose(matrix[:3, :3], SIZE * directions, atol=1e-4)  # quaternions
        middle = apply_affine(matrix, (np.array(image.shape) - 1) / 2)
        true = apply_affine(T1_AFFINE, (np.array(T1_SHAPE) - 1) / 2)
        np.testing.assert_allclose(middle, true, atol=1e-3)


def test_the_fixed_image_is_interpolated_as_by_scipy(coarse: Path, head: dict[str, Path]) -> None:
    image = nib.load(coarse / "sub-a_desc-preproc_T1w.nii.gz")
    matrix = np.linalg.inv(T1_AFFINE) @ image.affine
    own = (matrix[:3, :3], matrix[:3, 3], image.shape)
    expected = affine_transform(load(head["t1"]), *own, order=3, mode="mirror")
    deep = ((points(image.shape, image.affine) / 25.0) ** 2).sum(-1) < 1
    np.testing.assert_allclose(image.get_fdata()[deep], expected[deep], rtol=1e-3)


def test_the_other_image_and_its_mask_are_those_of_the_formula(coarse: Path) -> None:
    image = nib.load(coarse / "sub-a_desc-preproc_FLAIR.nii.gz")
    places = points(image.shape, image.affine)
    deep = ((places / 30.0) ** 2).sum(-1) < 1
    expected = flair_of(tissue(places, 1))
    assert np.corrcoef(image.get_fdata()[deep], expected[deep])[0, 1] > 0.9
    found, true = load(coarse / "sub-a_label-lesion_mask.nii.gz"), lesion(places)
    assert set(np.unique(found)) == {0, 1}
    assert 2 * np.count_nonzero(found & true) / (found.sum() + true.sum()) > 0.8
    about = json.loads((coarse / "sub-a_desc-preproc_FLAIR.json").read_bytes())
    np.testing.assert_allclose(about["Resampling"]["VoxelSizeMm"], SIZE, rtol=1e-6)


def test_many_more_voxels_are_refused_unless_allowed(head: dict[str, Path], tmp_path: Path) -> None:
    command = ["preprocess", table(tmp_path, t1=head["t1"]), "--out", str(tmp_path / "out"), *ALONE]
    command += ["--voxel-size", "1.2", "1.2", "1.2"]
    assert main(command) == 3
    (row,) = read_table(tmp_path / "out" / "failed.tsv")
    assert "would have 598,928 voxels for 63,840, which is more than 8 times" in row["reason"]
    assert main([*command, "--allow-upsampling"]) == 0  # in the folder that was begun without
    found = load(tmp_path / "out" / "sub-a" / "anat" / "sub-a_desc-preproc_T1w.nii.gz")
    assert found.size == 598928
    assert main([*command[:-3], "1.4"]) == 2  # results of other settings


def test_voxels_that_have_the_size_stay_as_they_are(head: dict[str, Path], tmp_path: Path) -> None:
    command = ["preprocess", table(tmp_path, t1=head["t1"]), "--out", str(tmp_path / "out"), *ALONE]
    assert main([*command, "--voxel-size", "2.5", "2.5", "2.61"]) == 0
    found = nib.load(tmp_path / "out" / "sub-a" / "anat" / "sub-a_desc-preproc_T1w.nii.gz")
    np.testing.assert_array_equal(found.get_fdata(), load(head["t1"]))
    np.testing.assert_allclose(found.affine, T1_AFFINE, atol=1e-5)


def thickened(values: np.ndarray, order: int) -> np.ndarray:
    """Voxels of 1 mm averaged to slices of 3 mm, with pixels of nearly 0.7 mm within them."""
    slices = values.astype(np.float32).reshape(*values.shape[:2], -1, 3).mean(-1)
    factors = tuple(round(n / 0.7) / n for n in slices.shape[:2])
    return zoom(slices, (*factors, 1), order=order, grid_mode=True, mode="nearest")


def likeness(values: np.ndarray, others: np.ndarray) -> float:
    """Correlation, but for the borders."""
    inside = (slice(4, -4),) * 3
    return float(np.corrcoef(values[inside].ravel(), others[inside].ravel())[0, 1])


def test_thick_slices_of_a_patient_come_back_to_their_place(shared: Path, tmp_path: Path) -> None:
    """A part of a real scan, as if it were imaged with 0.7 × 0.7 × 3 mm, and its lesions."""
    folder = shared / "data" / "patient07"
    image, truth = (nib.load(folder / f"{name}.nii.gz") for name in ("FLAIR", "GOLD"))
    box = tuple(slice(n // 2 - 45, n // 2 + 45) for n in image.shape)
    part, lesions = (np.asarray(each.dataobj[box]) for each in (image, truth))
    affine = image.affine @ from_matvec(np.eye(3), [each.start for each in box])
    thick, drawn = thickened(part, 1), thickened(lesions, 0) > 0.5
    scale = np.divide(part.shape, thick.shape)
    own = affine @ from_matvec(np.diag(scale), (scale - 1) / 2)
    files = {
        "t1": save(tmp_path / "thick.nii.gz", thick, own),
        "reference": save(tmp_path / "lesions.nii.gz", drawn.astype(np.uint8), own),
    }
    command = ["preprocess", table(tmp_path, **files), "--out", str(tmp_path / "out"), *ALONE]
    assert main([*command, "--voxel-size", "1"]) == 0
    results = tmp_path / "out" / "sub-a" / "anat"
    found = nib.load(results / "sub-a_desc-preproc_T1w.nii.gz")
    assert found.shape == part.shape
    np.testing.assert_allclose(found.affine, affine, atol=1e-3)
    fits = {step: likeness(np.roll(found.get_fdata(), *step), part) for step in SHIFTS}
    assert max(fits, key=lambda step: fits[step]) == (0, 0)  # no shift by a voxel fits better
    assert fits[0, 0] > 0.9  # slices of 3 mm have lost the rest
    carried = load(results / "sub-a_label-lesion_mask.nii.gz")
    centres = [apply_affine(affine, center_of_mass(each > 0)) for each in (carried, lesions)]
    np.testing.assert_allclose(centres[0], centres[1], atol=1.0)
    assert carried.sum() == pytest.approx(np.count_nonzero(lesions), rel=0.2)
