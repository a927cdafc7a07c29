"""Scans whose voxels are not of the network's size: resampled for it, and results back."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from helpers.cohorts import make_cohort
from helpers.tiny import CHANNELS, ROI, TinyScan, load, read_table, save

import jaxsal
from jaxsal.box import Box
from jaxsal.checkpoints import save_model
from jaxsal.cli.main import main
from jaxsal.cohort.check import check
from jaxsal.cohort.results import CohortResults, read_map
from jaxsal.cohort.storage.folder import CohortFolder
from jaxsal.cohort.storage.work import ScanWork
from jaxsal.errors import InputError
from jaxsal.experiments.study import Study
from jaxsal.inputs.entries import Entry, Scan
from jaxsal.inputs.images import load_scan
from jaxsal.lesions import label_lesions, lesion_probability
from jaxsal.model import Model
from jaxsal.network_grid import labels_on_network, map_on_grid
from jaxsal.preprocessing import Normalisation, Preprocessing
from jaxsal.resampling import resample
from jaxsal.saliency.methods.smoothgrad import SmoothGradSettings
from jaxsal.scan.explain import explain
from jaxsal.scan.predict import predict
from jaxsal.scan.prediction import find_lesions
from jaxsal.settings import CohortSettings, ExplainSettings, PredictSettings
from jaxsal.volumes import read_grid, read_volume

SIZE = (1.25, 1.0, 1.0)  # the tiny scan has 1 × 0.9 × 1.2 mm
MAP = "maps/lesion-0001_flair_smoothgrad-max.nii.gz"
SETTINGS = PredictSettings(roi=ROI, minimum_volume=1.0)
SALIENCY = SmoothGradSettings(samples=1, memory=2**30)


@pytest.fixture(scope="module")
def model(tiny_model: Model) -> Model:
    """A network of other voxels, and other axes, than the tiny scan's."""
    return replace(tiny_model, preprocessing=Preprocessing(orientation="RSP", spacing=SIZE))


@pytest.fixture(scope="module")
def stated(model: Model) -> Model:
    """The same, of which it is stated how scans are resampled."""
    return model.with_resampling("cubic")


@pytest.fixture(scope="module")
def explained(
    model: Model, stated: Model, scan: TinyScan, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("explained")
    settings = ExplainSettings(SALIENCY, labels=(1,))
    with pytest.warns(UserWarning, match=r"resampled from 1 × 1\.2 × 0\.9 to .* by cubic splines"):
        explain(model, Scan(scan.images), folder / "cropped", SETTINGS, settings)
    settings = replace(settings, full_grid=True, pictures=False)
    explain(stated, Scan(scan.images), folder / "full", SETTINGS, settings)
    return folder


def test_lesions_lie_on_the_scans_own_grid(explained: Path, model: Model, scan: TinyScan) -> None:
    image, grid, _ = jaxsal.read_scan(scan.images, CHANNELS, model.preprocessing)
    np.testing.assert_allclose(grid.spacing, SIZE, rtol=0.02)  # whole numbers of voxels
    logits = np.asarray(jaxsal.sliding_window(model, roi=ROI)(image))
    rules = model.preprocessing.rules.logits
    back = resample(logits, grid.scan.shape, SIZE, grid.scan.spacing, rules)
    expected = grid.scan.to_file(lesion_probability(back, 1))
    found = load(explained / "cropped/prediction.nii.gz")
    np.testing.assert_allclose(found, expected, atol=1e-6)
    own = read_grid(scan.flair)
    labels, lesions = label_lesions(found >= model.threshold, own, minimum_volume=1.0)
    np.testing.assert_array_equal(load(explained / "cropped/instances.nii.gz") > 0, labels > 0)
    for name in ("prediction.nii.gz", "instances.nii.gz"):
        assert read_grid(explained / "cropped" / name).matches(own)
    (row,) = read_table(explained / "cropped/instances.tsv")
    (same,) = (each for each in lesions if each.voxels == int(row["voxels"]))
    assert float(row["volume_mm3"]) == pytest.approx(same.volume_mm3, rel=1e-5)
    centre = [float(row[f"{axis}_mm"]) for axis in "xyz"]
    np.testing.assert_allclose(centre, same.centroid_mm, atol=1e-3)


def test_maps_are_those_of_the_resampled_image_and_lie_over_the_scan(
    explained: Path, model: Model, scan: TinyScan
) -> None:
    image, grid, _ = jaxsal.read_scan(scan.images, CHANNELS, model.preprocessing)
    labels = jaxsal.read_labels(explained / "cropped/instances.nii.gz", grid)
    field = jaxsal.sliding_window(model, roi=ROI)
    maps = jaxsal.smoothgrad(field, image, np.where(labels == 1, labels, 0), samples=1)
    expected = grid.to_file(maps.dense(1)[..., 0])
    found = read_volume(explained / "cropped" / MAP)
    values, origin = read_map([explained / "cropped" / MAP], grid.file)
    dense = np.zeros_like(expected)
    dense[Box.at(origin, values.shape).slices] = values[..., 0]
    np.testing.assert_allclose(dense, expected, atol=1e-5 * np.abs(expected).max())
    lesion = load(explained / "cropped/instances.nii.gz") == 1
    centre = np.argwhere(lesion).mean(0)
    peak = np.unravel_index(np.abs(found.data).argmax(), found.data.shape)
    apart = found.grid.world(peak) - read_grid(scan.flair).world(centre)
    assert np.linalg.norm(apart) < 8  # mm: the receptive field of the tiny network


def test_a_background_that_is_0_stays_so(model: Model, scan: TinyScan) -> None:
    image, grid, _ = jaxsal.read_scan(scan.images, CHANNELS, model.preprocessing)
    outside = grid.to_file(image[..., 0]) == 0
    assert outside.mean() == pytest.approx((scan.image[..., 0] == 0).mean(), abs=0.03)
    centre, *_ = np.argwhere(~outside).mean(0)[None]
    assert np.abs(centre - (np.array(outside.shape) - 1) / 2).max() < 1


def test_whole_maps_are_interpolated_to_the_scans_grid(explained: Path, scan: TinyScan) -> None:
    full, crop = read_volume(explained / "full" / MAP), read_volume(explained / "cropped" / MAP)
    own = read_grid(scan.flair)
    assert full.grid.matches(own)
    values, box = map_on_grid(crop.data[..., None], crop.grid, own)
    np.testing.assert_allclose(full.data, box.place(values, own.shape)[..., 0], atol=1e-6)
    assert np.abs(full.data).max() > 0


def test_the_record_says_how_the_scan_was_resampled(explained: Path) -> None:
    record = json.loads((explained / "full/run.json").read_text())
    said = record["settings"]["prediction"]["resampled"]
    assert said["from_mm"] == pytest.approx([1.0, 0.9, 1.2])
    assert said["to_mm"] == pytest.approx([1.25, 1.0, 1.0], rel=0.02)
    assert said["shape"] == [19, 25, 24]
    assert record["model"]["preprocessing"]["resampling"]["images"]["order"] == 3


@pytest.mark.thorough
def test_a_cohort_finds_and_maps_the_same(
    explained: Path, model: Model, scan: TinyScan, tmp_path: Path
) -> None:
    entries = [Entry("1", Scan(scan.images), {"subject": "1"})]
    settings = CohortSettings((SALIENCY,))
    list(jaxsal.run_cohort(model, entries, tmp_path, prediction=SETTINGS, settings=settings))
    (found,) = CohortResults(tmp_path).scans()
    assert "cubic splines" in found.record.reason
    np.testing.assert_array_equal(found.labels, load(explained / "cropped/instances.nii.gz"))
    method = next(iter(CohortResults(tmp_path).methods.values()))
    (sidecar,) = (tmp_path / "sub-1").rglob("*flair*.json")
    assert json.loads(sidecar.read_text())["Resampled"]["shape"] == [19, 25, 24]
    crop = found.map(1, method)  # on the scan's grid, for pictures
    full = load(explained / "full" / MAP)
    np.testing.assert_allclose(
        crop.box.place(crop.values, full.shape)[..., 0], full, atol=1e-5 * np.abs(full).max()
    )
    (kept,) = jaxsal.run_cohort(model, entries, prediction=SETTINGS, settings=settings)
    assert kept.maps is not None
    assert kept.maps.labels.shape == kept.maps.grid.shape == (19, 25, 24)


def test_an_unfinished_scan_is_gone_on_with(model: Model, scan: TinyScan, tmp_path: Path) -> None:
    loaded = load_scan(Scan(scan.images), CHANNELS, model.preprocessing)
    before = find_lesions(model, loaded, SETTINGS)
    work = ScanWork(CohortFolder(tmp_path), "sub-1")
    work.begin({})
    work.save_lesions(before)
    after = work.lesions(loaded)
    assert after is not None
    np.testing.assert_array_equal(after.probability, before.probability)
    np.testing.assert_array_equal(after.domains, before.domains)


def test_given_lesions_and_references_lie_on_the_scans_grid(
    stated: Model, scan: TinyScan, tmp_path: Path
) -> None:
    labels = np.zeros(read_grid(scan.flair).shape, np.uint8)
    labels[8:11, 9:12, 8:11], labels[15, 18, 11] = 4, 9
    given = save(tmp_path / "labels.nii.gz", labels)
    settings = ExplainSettings(SALIENCY, pictures=False)
    rows = explain(stated, Scan(scan.images, instances=given), tmp_path / "a", SETTINGS, settings)
    assert [(row["label"], row["voxels"]) for row in rows] == [(4, 27), (9, 1)]
    loaded = load_scan(Scan(scan.images, instances=given), CHANNELS, stated.preprocessing)
    found = find_lesions(stated, loaded, SETTINGS)
    np.testing.assert_array_equal(found.domains, labels_on_network(found.labels, loaded.grid))
    rows = predict(stated, Scan(scan.images, reference=given), tmp_path / "b", SETTINGS)
    assert {row["kind"] for row in rows} <= {"TP", "FP", "FN"}


def test_the_network_gets_no_more_than_the_crop(
    tiny_model: Model, scan: TinyScan, tmp_path: Path
) -> None:
    schemes = (Normalisation("zscore"),) * 2
    told = Preprocessing(schemes, spacing=SIZE, crop=True, windows="nnunet")
    loaded = load_scan(Scan(scan.images), CHANNELS, told)
    some = load(scan.flair) != 0
    ends = [np.flatnonzero(some.any(axis)) for axis in ((1, 2), (0, 2), (0, 1))]
    assert [(b.start, b.stop) for b in loaded.scan_box.slices] == [(e[0], e[-1] + 1) for e in ends]
    assert loaded.box.shape == loaded.grid.shape == loaded.image.shape[:3]
    model = replace(tiny_model, preprocessing=told, threshold=0.5).with_resampling("linear")
    predict(model, Scan(scan.images), tmp_path, SETTINGS)
    probability = load(tmp_path / "prediction.nii.gz")
    assert probability.shape == some.shape
    outside = np.ones(some.shape, bool)
    outside[loaded.scan_box.slices] = False
    assert not probability[outside].any()


def test_experiments_take_no_other_voxels(model: Model, tmp_path: Path) -> None:
    entries = make_cohort(tmp_path / "scans", 1)
    study = Study(model, entries, tmp_path / "study", SETTINGS, SALIENCY)
    study.lesions()
    assert study.left_out == {entries[0].id}
    assert any("resample the image" in note for note in study.notes)


@pytest.mark.thorough
def test_the_command_resamples_as_it_is_asked_to(
    model: Model, scan: TinyScan, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_model(model, tmp_path / "model")
    images = [f"--image={path}" for path in scan.images]
    command = ["predict", str(tmp_path / "model"), *images, "--roi", "16"]
    for name in ("linear", "cubic"):
        assert main([*command, "--out", str(tmp_path / name), "--resample", name]) == 0
        assert "splines" not in capsys.readouterr().err
    one, other = (load(tmp_path / n / "prediction.nii.gz") for n in ("linear", "cubic"))
    assert 0 < np.abs(one - other).max() < 0.5
    save_model(tiny_voxels(model), tmp_path / "fine")
    command[1] = str(tmp_path / "fine")
    assert main([*command, "--out", str(tmp_path / "no")]) == 2
    assert "--allow-upsampling takes it" in capsys.readouterr().err
    assert not (tmp_path / "no").exists()
    command += ["--resample", "linear", "--allow-upsampling"]
    assert main([*command, "--out", str(tmp_path / "yes")]) == 0
    assert nib.load(tmp_path / "yes/prediction.nii.gz").shape == one.shape


def tiny_voxels(model: Model) -> Model:
    """The network for voxels that need 8.6 times as many."""
    told = replace(model.preprocessing, spacing=(0.5, 0.5, 0.5))
    return replace(model, preprocessing=told)


def test_resampling_is_for_models_that_say_their_voxel_size(tiny_model: Model) -> None:
    with pytest.raises(InputError, match="does not say it"):
        tiny_model.with_resampling("linear")


def _in_microns(scan: TinyScan, folder: Path) -> tuple[Path, ...]:
    """The scan's images with a header that says their voxels are a thousand times smaller."""
    paths = []
    for path in scan.images:
        image = nib.load(path)
        image.header.set_xyzt_units("micron")
        paths.append(folder / Path(path).name)
        nib.save(image, paths[-1])
    return tuple(paths)


def test_voxels_that_no_scanner_makes_are_refused_unless_permitted(
    tmp_path: Path, scan: TinyScan, tiny_model: Model
) -> None:
    images = _in_microns(scan, tmp_path)
    with pytest.raises(InputError, match=r"voxels of 0\.001 × 0\.0009 × 0.*--any-voxel-size"):
        jaxsal.read_image(images, CHANNELS, tiny_model.preprocessing)
    permitted = tiny_model.with_any_voxel_size()
    taken, _ = jaxsal.read_image(images, CHANNELS, permitted.preprocessing)
    np.testing.assert_array_equal(taken, jaxsal.read_image(scan.images, CHANNELS)[0])


@pytest.mark.parametrize("headers_only", [False, True])
def test_a_check_lists_voxels_that_no_scanner_makes(
    tmp_path: Path, scan: TinyScan, tiny_model: Model, headers_only: bool
) -> None:
    entries = [Entry("07", Scan(_in_microns(scan, tmp_path)), {"subject": "07"})]
    found = check(entries, CHANNELS, None, headers_only=headers_only)
    assert {problem.severity for problem in found} == {"error"}
    assert all("0.05 to 20 mm" in problem.message for problem in found)
    permitted = tiny_model.with_any_voxel_size().preprocessing
    found = check(entries, CHANNELS, permitted, headers_only=headers_only)
    assert not [problem for problem in found if problem.severity == "error"]


def test_the_command_line_permits_any_voxel_size(
    tmp_path: Path, scan: TinyScan, model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = map(str, _in_microns(scan, tmp_path))
    command = ["predict", str(model_folder), "--image", *images, "--roi", "16"]
    assert main([*command, "--out", str(tmp_path / "a")]) == 2
    assert "--any-voxel-size" in capsys.readouterr().err
    assert main([*command, "--out", str(tmp_path / "b"), "--any-voxel-size"]) == 0


def test_whether_any_voxel_size_is_permitted_survives_json() -> None:
    for permitted in (False, True):
        told = Preprocessing(any_voxel_size=permitted)
        assert Preprocessing.from_json(json.loads(json.dumps(told.to_json()))) == told
