"""Maps lie over the scan, as viewers built on nibabel (FSLeyes) and on ITK place them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK  # ITK is what ITK-SNAP and 3D Slicer read with
from helpers.tiny import ROI, TinyScan, load, oblique_affine, read_table, save

from jaxsal.inputs.entries import Scan
from jaxsal.model import Model
from jaxsal.saliency.maps import Crop
from jaxsal.saliency.methods.smoothgrad import SmoothGradSettings
from jaxsal.scan.explain import explain
from jaxsal.scan.map_files import write_maps
from jaxsal.settings import ExplainSettings, PredictSettings
from jaxsal.volumes import read_volume

SHAPE = (10, 12, 8)
SPACING = (0.9, 1.1, 2.0)
ORIGIN, PEAK = (2, 3, 1), (4, 5, 3)  # of the map in the scan, and of its peak
CODES = {"sform only": (1, 0), "qform only": (0, 1), "both": (4, 1)}
Place = Callable[[Path, Sequence[float]], np.ndarray]


def along(codes: str) -> np.ndarray:
    """The affine whose array axes point to these sides of the head."""
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis, (world, sign) in enumerate(nib.orientations.axcodes2ornt(codes)):
        affine[int(world), axis] = sign * SPACING[axis]
    affine[:3, 3] = (-30.5, 22.25, -11.125)
    return affine


def turned(*flips: float) -> np.ndarray:
    """Turned about x by 35 degrees, then as the tiny scan, some axes flipped."""
    a = np.deg2rad(35)
    about_x = np.eye(4)
    about_x[1:3, 1:3] = [[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]
    rotation = nib.affines.from_matvec(nib.affines.to_matvec(oblique_affine())[0])
    rotation[:3, :3] /= np.linalg.norm(rotation[:3, :3], axis=0)
    scaling = np.diag([f * s for f, s in zip(flips, SPACING, strict=True)] + [1])
    affine = rotation @ about_x @ scaling
    affine[:3, 3] = (31.5, -40.25, 12)
    return affine


AFFINES = {
    **{codes: along(codes) for codes in ("RAS", "LAS", "LPS", "PIR", "SAL", "ILP")},
    "oblique": turned(-1, 1, 1),  # the turn that it begins with flips x
    "oblique, flipped": turned(1, 1, 1),
    "oblique, flipped twice": turned(1, -1, 1),
}


def in_nibabel(path: Path, voxel: Sequence[float]) -> np.ndarray:
    return nib.affines.apply_affine(nib.load(path).affine, voxel)


def in_itk(path: Path, voxel: Sequence[float]) -> np.ndarray:
    """By ITK, whose x and y point to the left and to the back."""
    index = [float(v) for v in voxel]
    return np.multiply(
        SimpleITK.ReadImage(str(path)).TransformContinuousIndexToPhysicalPoint(index), (-1, -1, 1)
    )


in_both = pytest.mark.parametrize("place", [in_nibabel, in_itk])


def save_scan(path: Path, sform: tuple[np.ndarray, int], qform: tuple[np.ndarray, int]) -> Path:
    image = nib.Nifti1Image(np.ones(SHAPE, np.float32), None)
    image.header.set_xyzt_units("mm")
    for set_form, (affine, code) in (
        (image.header.set_sform, sform),
        (image.header.set_qform, qform),
    ):
        set_form(affine, code)
    nib.save(nib.Nifti1Image(image.dataobj, image.header.get_best_affine(), image.header), path)
    return path


def write_map(scan: Path, path: Path, *, full_grid: bool) -> tuple[int, ...]:
    """A map with one peak, over the scan; where its peak is in the file."""
    values = np.zeros((5, 6, 4, 1), np.float32)
    values[tuple(np.subtract(PEAK, ORIGIN))] = 1
    write_maps([path], read_volume(scan).grid, Crop(values, ORIGIN, 1), full_grid=full_grid)
    return tuple(int(i) for i in np.unravel_index(load(path).argmax(), load(path).shape))


def assert_in_place(place: Place, scan: Path, path: Path, peak: Sequence[int]) -> None:
    np.testing.assert_allclose(place(path, peak), place(scan, PEAK), rtol=0, atol=1e-4)


@in_both
@pytest.mark.parametrize("full_grid", [False, True], ids=["cropped", "full grid"])
@pytest.mark.parametrize("codes", CODES.values(), ids=CODES)
@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
def test_a_voxel_of_map_and_scan_has_one_place(
    affine: np.ndarray, codes: tuple[int, int], full_grid: bool, place: Place, tmp_path: Path
) -> None:
    scan = save_scan(tmp_path / "scan.nii.gz", (affine, codes[0]), (affine, codes[1]))
    peak = write_map(scan, tmp_path / "map.nii.gz", full_grid=full_grid)
    assert load(tmp_path / "map.nii.gz").shape == (SHAPE if full_grid else (5, 6, 4))
    assert_in_place(place, scan, tmp_path / "map.nii.gz", peak)
    np.testing.assert_allclose(in_itk(scan, PEAK), affine[:3] @ [*PEAK, 1], atol=1e-4)


@in_both
def test_two_transforms_that_differ_both_hold_for_the_map(place: Place, tmp_path: Path) -> None:
    template, scanner = (AFFINES["RAS"], 4), (AFFINES["oblique"], 1)
    scan = save_scan(tmp_path / "scan.nii.gz", template, scanner)
    peak = write_map(scan, tmp_path / "map.nii.gz", full_grid=False)
    assert_in_place(place, scan, tmp_path / "map.nii.gz", peak)
    found = nib.load(tmp_path / "map.nii.gz").header.get_qform()[:3] @ [*peak, 1]
    np.testing.assert_allclose(found, scanner[0][:3] @ [*PEAK, 1], atol=1e-4)


@in_both
def test_where_no_header_tells_the_place_maps_have_the_scans_grid(
    place: Place, tmp_path: Path
) -> None:
    scan = save_scan(tmp_path / "scan.nii.gz", (AFFINES["LAS"], 0), (AFFINES["LAS"], 0))
    assert np.abs(in_itk(scan, PEAK) - in_nibabel(scan, PEAK)).max() > 1  # each has its own rule
    peak = write_map(scan, tmp_path / "map.nii.gz", full_grid=False)
    assert peak == PEAK
    assert_in_place(place, scan, tmp_path / "map.nii.gz", peak)


def test_itk_takes_a_sheared_map_if_it_takes_the_scan(tmp_path: Path) -> None:
    """A shear (of a registration written into the sform) is kept; ITK then goes by the qform."""
    sheared = turned(1, 1, 1)
    sheared[:3, 1] += 0.1 * sheared[:3, 0]
    for name, codes in (("with qform", (2, 1)), ("sform only", (2, 0))):
        scan = save_scan(
            tmp_path / f"{name}.nii.gz", (sheared, codes[0]), (turned(1, 1, 1), codes[1])
        )
        peak = write_map(scan, tmp_path / "map.nii.gz", full_grid=False)
        assert_in_place(in_nibabel, scan, tmp_path / "map.nii.gz", peak)
        if codes[1]:
            assert_in_place(in_itk, scan, tmp_path / "map.nii.gz", peak)
        else:
            for path in (scan, tmp_path / "map.nii.gz"):
                with pytest.raises(RuntimeError, match="orthonormal"):
                    SimpleITK.ReadImage(str(path))


@in_both
@pytest.mark.parametrize("affine", [AFFINES["PIR"], oblique_affine()], ids=["PIR", "oblique"])
def test_what_a_run_writes_lies_over_its_scan(
    affine: np.ndarray, place: Place, scan: TinyScan, tiny_model: Model, tmp_path: Path
) -> None:
    images = [save(tmp_path / path.name, load(path), affine) for path in scan.images]
    settings = ExplainSettings(SmoothGradSettings(samples=1), labels=(2,), pictures=False)
    out = tmp_path / "out"
    explain(tiny_model, Scan(tuple(images)), out, PredictSettings(roi=ROI), settings)
    labels, saliency = (
        out / "instances.nii.gz",
        out / "maps/lesion-0002_flair_smoothgrad-max.nii.gz",
    )
    lesion = np.argwhere(load(labels) == 2)
    (row,) = read_table(out / "instances.tsv")
    centroid = [float(row[f"{axis}_mm"]) for axis in "xyz"]
    for path in (images[0], labels):
        np.testing.assert_allclose(place(path, lesion.mean(0)), centroid, atol=1e-3)
    # the centre of a map's own domain, found by where the map's file lies
    origin = np.linalg.solve(affine, [*place(saliency, (0, 0, 0)), 1])[:3]
    first = np.rint(origin).astype(int)
    np.testing.assert_allclose(origin, first, atol=1e-4)
    assert load(saliency).shape != load(labels).shape
    inside = load(saliency)[tuple((lesion - first).T)]
    np.testing.assert_allclose(inside.mean(), float(row["flair_mean_inside"]), rtol=1e-4)
