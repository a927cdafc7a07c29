"""Scans whose array axes are not those of the network: brought to them, and results back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from helpers.tiny import CHANNELS, ROI, TinyScan, load, read_table
from nibabel import orientations

import jaxsal
from jaxsal.box import Box
from jaxsal.cohort.results import read_map
from jaxsal.cohort.storage.folder import CohortFolder
from jaxsal.cohort.storage.work import ScanWork
from jaxsal.errors import InputError
from jaxsal.inputs.entries import Entry, Scan
from jaxsal.inputs.images import load_scan
from jaxsal.model import Model
from jaxsal.preprocessing import Normalisation, Preprocessing
from jaxsal.saliency.methods.smoothgrad import SmoothGradSettings
from jaxsal.scan.explain import explain
from jaxsal.scan.predict import predict
from jaxsal.scan.prediction import find_lesions
from jaxsal.settings import CohortSettings, ExplainSettings, PredictSettings
from jaxsal.volumes import read_grid, read_volume

AXES = ("RAS", "LAS", "PSR", "LIP")
MAP = "maps/lesion-0001_flair_smoothgrad-max.nii.gz"
SETTINGS = PredictSettings(roi=ROI)
SALIENCY = SmoothGradSettings(samples=1, memory=2**30)


def turned(image: nib.Nifti1Image, axes: str) -> nib.Nifti1Image:
    """The same image with array axes that run to these sides, by nibabel."""
    own = orientations.io_orientation(image.affine)
    return image.as_reoriented(orientations.ornt_transform(own, orientations.axcodes2ornt(axes)))


@pytest.fixture(scope="module")
def heads(scan: TinyScan, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Scan]:
    """The tiny scan with a mask and a reference, in every order of its axes."""
    folder = tmp_path_factory.mktemp("heads")
    brain = (scan.image[..., 0] != 0).astype(np.uint8)
    lesions = np.zeros_like(brain)
    lesions[7:10, 9:12, 8:11] = 1
    sources = [*map(nib.load, scan.images)]
    sources += [nib.Nifti1Image(data, scan.affine) for data in (lesions, brain)]
    made = {}
    for axes in AXES:
        paths = [folder / f"{axes}_{name}.nii.gz" for name in (*CHANNELS, "lesions", "brain")]
        for path, source in zip(paths, sources, strict=True):
            nib.save(turned(source, axes), path)
        made[axes] = Scan(tuple(paths[:2]), reference=paths[2], mask=paths[3])
    return made


@pytest.fixture(scope="module")
def model(tiny_model: Model, scan: TinyScan) -> Model:
    """A network that says that it takes the axes of the tiny scan."""
    axes = "".join(nib.aff2axcodes(scan.affine))
    return replace(tiny_model, preprocessing=Preprocessing(orientation=axes))


@pytest.fixture(scope="module")
def explained(
    heads: Mapping[str, Scan], model: Model, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """The results for each of the heads."""
    folder = tmp_path_factory.mktemp("explained")
    settings = ExplainSettings(SALIENCY, labels=(1,))
    for axes, head in heads.items():
        explain(model, head, folder / axes, SETTINGS, settings)
    return {axes: folder / axes for axes in heads}


@pytest.mark.parametrize("axes", AXES)
def test_every_order_of_axes_gives_the_same_lesions_and_maps(
    explained: dict[str, Path], heads: dict[str, Scan], axes: str
) -> None:
    found, other = explained[axes], explained["LAS"]
    assert read_table(found / "instances.tsv") == read_table(other / "instances.tsv")
    names = [path.relative_to(other).as_posix() for path in other.rglob("*.nii.gz")]
    assert len(names) == 2 + 2
    for name in names:
        ours = nib.load(found / name)
        assert "".join(nib.aff2axcodes(ours.affine)) == axes
        same = turned(nib.load(other / name), axes)
        np.testing.assert_array_equal(np.asarray(ours.dataobj), np.asarray(same.dataobj))
        np.testing.assert_allclose(ours.affine, same.affine, atol=1e-4)
    image = nib.load(heads[axes].images[0])
    for name in ("prediction.nii.gz", "instances.nii.gz"):
        np.testing.assert_array_equal(nib.load(found / name).affine, image.affine)
    for picture in (other / "pictures").iterdir():
        assert (found / "pictures" / picture.name).read_bytes() == picture.read_bytes()


@pytest.mark.parametrize("axes", AXES)
def test_scans_that_are_read_in_python_come_in_the_networks_axes(
    explained: dict[str, Path], heads: dict[str, Scan], model: Model, axes: str, tmp_path: Path
) -> None:
    head = heads[axes]
    image, grid, _ = jaxsal.read_scan(head.images, CHANNELS, model.preprocessing, head.mask)
    labels = jaxsal.read_labels(explained[axes] / "instances.nii.gz", grid)
    field = jaxsal.sliding_window(model, roi=ROI)
    maps = jaxsal.smoothgrad(field, image, np.where(labels == 1, labels, 0), samples=1)
    jaxsal.write_volume(tmp_path / "map.nii.gz", maps.dense(1)[..., 0], grid)
    found, own = read_volume(tmp_path / "map.nii.gz"), read_grid(head.images[0])
    assert found.grid.matches(own)
    values, origin = read_map([explained[axes] / MAP], own)
    x, y, z = (slice(o, o + n) for o, n in zip(origin, values.shape, strict=False))
    np.testing.assert_array_equal(found.data[x, y, z], values[..., 0])
    assert np.count_nonzero(found.data) == np.count_nonzero(values)


@pytest.mark.thorough
def test_maps_in_memory_are_on_the_scans_own_grid(
    explained: dict[str, Path], heads: dict[str, Scan], model: Model
) -> None:
    entries = [Entry("1", heads["PSR"], {"subject": "1"})]
    settings = CohortSettings((SALIENCY,))
    (result,) = jaxsal.run_cohort(model, entries, prediction=SETTINGS, settings=settings)
    assert result.maps is not None
    assert result.maps.grid.matches(read_grid(heads["PSR"].images[0]))
    np.testing.assert_array_equal(result.maps.labels, load(explained["PSR"] / "instances.nii.gz"))
    crop = result.maps.crops["smoothgrad-max"][1]
    file = read_volume(explained["PSR"] / MAP)
    np.testing.assert_allclose(crop.values[..., 0], file.data, atol=1e-6 * np.abs(file.data).max())
    np.testing.assert_allclose(result.maps.grid.world(crop.origin), file.grid.world([0, 0, 0]))


def test_an_unfinished_scan_is_gone_on_with_in_the_networks_axes(
    heads: dict[str, Scan], model: Model, tmp_path: Path
) -> None:
    loaded = load_scan(heads["PSR"], model.channels, model.preprocessing)
    before = find_lesions(model, loaded, SETTINGS)
    work = ScanWork(CohortFolder(tmp_path), "sub-1")
    work.begin({})
    work.save_lesions(before)
    after = work.lesions(loaded)
    assert after is not None
    np.testing.assert_array_equal(after.probability, before.probability)
    np.testing.assert_array_equal(after.labels, before.labels)
    assert after.instances == before.instances


@pytest.mark.parametrize("axes", AXES)
def test_what_nnunet_reorients_is_what_nibabel_calls_canonical(
    heads: dict[str, Scan], axes: str
) -> None:
    scheme = Normalisation("zscore", masked=True)
    told = Preprocessing((scheme, scheme), orientation="RAS", crop=True)
    image, grid, box = jaxsal.read_scan(heads[axes].images, CHANNELS, told)
    canonical = [nib.as_closest_canonical(nib.load(path)) for path in heads[axes].images]
    raw = np.stack([np.asarray(each.dataobj) for each in canonical], axis=-1)
    np.testing.assert_array_equal(image, told.apply(raw))
    np.testing.assert_allclose(grid.affine, canonical[0].affine, atol=1e-5)
    own = read_volume(heads[axes].images[0]).data
    np.testing.assert_array_equal(grid.to_file(raw[..., 0]), own)
    own_box = grid.box_in_file(Box([s.start for s in box], [s.stop for s in box]))
    np.testing.assert_array_equal(grid.to_file(raw[box][..., 0]), own_box.cut(own))


def test_the_record_tells_the_box_on_the_scans_own_grid(
    heads: dict[str, Scan], tiny_model: Model, tmp_path: Path
) -> None:
    told = Preprocessing((Normalisation("none"),) * 2, orientation="RAS", crop=True)
    model = replace(tiny_model, preprocessing=told)
    predict(model, replace(heads["PSR"], mask=None), tmp_path / "out", SETTINGS)
    box = json.loads((tmp_path / "out" / "run.json").read_text())["settings"]["prediction"]["box"]
    some = load(heads["PSR"].images[0]) != 0
    found = [np.flatnonzero(some.any(axis)) for axis in ((1, 2), (0, 2), (0, 1))]
    assert box == [[int(each[0]), int(each[-1]) + 1] for each in found]


def test_voxel_sizes_follow_their_axes(heads: dict[str, Scan], scan: TinyScan) -> None:
    told = Preprocessing(orientation="LAS", spacing=(1.0, 0.9, 1.2))
    for head in heads.values():
        _, grid, _ = jaxsal.read_scan(head.images, CHANNELS, told)
        np.testing.assert_allclose(grid.spacing, (1.0, 0.9, 1.2), rtol=1e-5)
    other = replace(told, spacing=(1.0, 1.2, 0.9), permit="none")
    with pytest.raises(InputError, match=r"1 × 1\.2 × 0\.9 mm and the image has 1 × 0\.9 × 1\.2"):
        jaxsal.read_scan(scan.images, CHANNELS, other)


@pytest.mark.parametrize("axes", ["RAX", "RA", "RLS", "ras", ""])
def test_orientations_are_three_letters_of_three_directions(axes: str) -> None:
    with pytest.raises(InputError, match="three letters"):
        Preprocessing(orientation=axes)


def test_a_source_that_says_its_axes_is_not_contradicted() -> None:
    told = Preprocessing(orientation="RAS")
    assert told.completed("RAS", (1.0, 1.0, 2.0)) == replace(told, spacing=(1.0, 1.0, 2.0))
    with pytest.raises(InputError, match="orientation is RAS; got LPS"):
        told.completed("LPS", None)


def test_crops_of_a_turned_grid_lie_in_place(heads: dict[str, Scan]) -> None:
    own = read_grid(heads["PSR"].images[0])
    grid = own.in_axes("LAS")
    crop = grid.crop((2, 3, 4), (5, 6, 7))
    assert crop.shape == (5, 6, 7)
    np.testing.assert_allclose(crop.world([0, 0, 0]), grid.world([2, 3, 4]), atol=1e-4)
    np.testing.assert_allclose(crop.world([4, 5, 6]), grid.world([6, 8, 10]), atol=1e-4)
    assert crop.file.axes == "PSR"
