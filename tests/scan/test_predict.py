"""A scan's lesions as files: probability, label map, table, record."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import jax
import nibabel as nib
import numpy as np
import pytest
from helpers.tiny import CHANNELS, MISSED, ROI, SHAPE, TinyScan, contents, load, read_table, save
from scipy import ndimage, special

import jaxsal
from jaxsal.inputs.entries import Scan
from jaxsal.model import Model
from jaxsal.scan.predict import predict
from jaxsal.scan.prediction import Voxels
from jaxsal.settings import PredictSettings

SETTINGS = PredictSettings(roi=ROI)
COLUMNS = ["label", "kind", "voxels", "volume_mm3", "x_mm", "y_mm", "z_mm"]


@pytest.fixture(scope="module")
def predicted(scan: TinyScan, tiny_model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("predict") / "out"
    predict(tiny_model, Scan(scan.images), out, SETTINGS)
    return out


def components(mask: np.ndarray) -> np.ndarray:
    """18-connected components of more than 5 mm³, by other means."""
    labels, count = ndimage.label(mask, ndimage.generate_binary_structure(3, 2))
    sizes = ndimage.sum_labels(mask, labels, range(1, count + 1)) * 1.0 * 0.9 * 1.2
    kept = 1 + np.flatnonzero(sizes > 5)
    return np.where(np.isin(labels, kept), np.searchsorted(kept, labels) + 1, 0)


def test_the_promised_files_appear(predicted: Path) -> None:
    names = {"prediction.nii.gz", "instances.nii.gz", "instances.tsv", "run.json"}
    assert set(contents(predicted)) == names


def test_volumes_lie_on_the_grid_of_the_images(predicted: Path, scan: TinyScan) -> None:
    for name, kind in (("prediction", np.float32), ("instances", np.int32)):
        image = nib.load(predicted / f"{name}.nii.gz")
        assert image.shape == SHAPE
        assert image.get_data_dtype() == kind
        np.testing.assert_array_equal(image.affine, scan.affine)
        assert image.header.get_xyzt_units()[0] == "mm"


@pytest.mark.parametrize("field", ["sliding", "whole"])
def test_the_prediction_is_the_softmax_of_the_logits(
    tmp_path: Path, scan: TinyScan, tiny_model: Model, field: str
) -> None:
    predict(tiny_model, Scan(scan.images), tmp_path / "out", PredictSettings(field=field, roi=ROI))
    fields = {
        "sliding": jaxsal.sliding_window(tiny_model, roi=ROI),
        "whole": jaxsal.whole_volume(tiny_model),
    }
    logits = np.asarray(fields[field](scan.image))
    expected = special.softmax(logits.astype(np.float64), axis=-1)[..., 1]
    found = load(tmp_path / "out" / "prediction.nii.gz")
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_lesions_are_the_large_components_above_the_threshold(
    predicted: Path, tiny_model: Model
) -> None:
    probability = load(predicted / "prediction.nii.gz")
    expected = components(probability >= tiny_model.threshold)
    np.testing.assert_array_equal(load(predicted / "instances.nii.gz"), expected)
    assert expected.max() == 3


def test_the_table_describes_the_label_map(predicted: Path, scan: TinyScan) -> None:
    labels, rows = load(predicted / "instances.nii.gz"), read_table(predicted / "instances.tsv")
    assert [int(row["label"]) for row in rows] == [1, 2, 3]
    for row in rows:
        assert list(row) == COLUMNS
        voxels = np.argwhere(labels == int(row["label"]))
        assert (row["kind"], int(row["voxels"])) == ("predicted", len(voxels))
        assert float(row["volume_mm3"]) == pytest.approx(len(voxels) * 1.08, rel=1e-5)
        centroid = nib.affines.apply_affine(scan.affine, voxels).mean(0)
        found = [float(row[f"{axis}_mm"]) for axis in "xyz"]
        np.testing.assert_allclose(found, centroid, rtol=1e-5)


def test_the_threshold_can_be_given(tmp_path: Path, scan: TinyScan, tiny_model: Model) -> None:
    settings = PredictSettings(roi=ROI, threshold=0.7)
    predict(tiny_model, Scan(scan.images), tmp_path / "out", settings)
    probability = load(tmp_path / "out" / "prediction.nii.gz")
    found = load(tmp_path / "out" / "instances.nii.gz")
    np.testing.assert_array_equal(found, components(probability >= 0.7))
    assert found.any()
    assert np.count_nonzero(found) > np.count_nonzero(probability >= tiny_model.threshold)


def test_small_components_are_left_out(tmp_path: Path, scan: TinyScan, tiny_model: Model) -> None:
    settings = PredictSettings(roi=ROI, minimum_volume=16)
    predict(tiny_model, Scan(scan.images), tmp_path / "out", settings)
    rows = read_table(tmp_path / "out" / "instances.tsv")
    assert [int(row["voxels"]) for row in rows] == [22, 16]  # 13 voxels are 14 mm³


def test_the_other_output_channel_is_its_complement(
    tmp_path: Path, predicted: Path, scan: TinyScan, tiny_model: Model
) -> None:
    predict(tiny_model, Scan(scan.images), tmp_path / "out", PredictSettings(roi=ROI, target=0))
    other = load(tmp_path / "out" / "prediction.nii.gz")
    np.testing.assert_allclose(other, 1 - load(predicted / "prediction.nii.gz"), atol=1e-6)


def test_a_reference_tells_hits_from_false_alarms_and_missed_lesions(
    tmp_path: Path, predicted: Path, scan: TinyScan, tiny_model: Model
) -> None:
    labels = load(predicted / "instances.nii.gz")
    reference = np.zeros(SHAPE, np.uint8)
    reference[MISSED] = 1
    reference[tuple(np.argwhere(labels == 2)[0])] = 1  # one voxel in common is a hit
    path = save(tmp_path / "reference.nii.gz", reference)
    predict(tiny_model, Scan(scan.images, reference=path), tmp_path / "out", SETTINGS)
    rows = read_table(tmp_path / "out" / "instances.tsv")
    assert [(row["label"], row["kind"]) for row in rows] == [
        ("1", "FP"),
        ("2", "TP"),
        ("3", "FP"),
        ("4", "FN"),
    ]
    found = load(tmp_path / "out" / "instances.nii.gz")
    missed = np.zeros(SHAPE, bool)
    missed[MISSED] = True
    np.testing.assert_array_equal(found == 4, missed)
    np.testing.assert_array_equal(np.where(missed, 0, found), labels)


def test_an_image_without_lesions_is_a_success(
    tmp_path: Path, scan: TinyScan, tiny_model: Model
) -> None:
    settings = PredictSettings(roi=ROI, threshold=0.999)
    with pytest.warns(match=r"probability is 0\.99\d, below the threshold 0\.999$"):
        assert predict(tiny_model, Scan(scan.images), tmp_path / "out", settings) == []
    assert (tmp_path / "out" / "instances.tsv").read_text() == "\t".join(COLUMNS) + "\n"
    assert not load(tmp_path / "out" / "instances.nii.gz").any()


def test_the_record_tells_how_the_results_came_about(
    predicted: Path, scan: TinyScan, tiny_model: Model
) -> None:
    record = json.loads((predicted / "run.json").read_text())
    assert record["command"] == "predict"
    assert record["jaxsal"] == jaxsal.__version__
    assert record["device"] == jax.devices()[0].device_kind
    assert record["precision"] == "float32"
    assert record["settings"]["prediction"]["roi"] == list(ROI)
    assert record["settings"]["prediction"]["minimum_volume"] == 5.0
    assert record["model"]["channels"] == list(CHANNELS)
    assert record["model"]["threshold"] == tiny_model.threshold
    assert record["model"]["architecture"]["channels"] == [4, 6, 8]
    assert record["settings"]["prediction"]["threshold"] == tiny_model.threshold
    assert record["libraries"]["numpy"] == np.__version__
    background = {"value": 0.0, "voxels": int((scan.image[..., 0] == 0).sum())}
    assert record["inputs"] == {
        channel: {
            "file": str(path),
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "background": background,
        }
        for channel, path in zip(CHANNELS, scan.images, strict=True)
    }
    files = {name: file for name, file in contents(predicted).items() if name != "run.json"}
    expected = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    assert record["files"] == expected


def test_equal_runs_give_equal_results(
    tmp_path: Path, predicted: Path, scan: TinyScan, tiny_model: Model
) -> None:
    predict(tiny_model, Scan(scan.images), tmp_path / "out", SETTINGS)
    first, second = contents(predicted), contents(tmp_path / "out")
    for name in ("prediction.nii.gz", "instances.nii.gz", "instances.tsv"):
        assert first[name] == second[name]


def test_swapped_images_are_warned_of(tmp_path: Path, scan: TinyScan, tiny_model: Model) -> None:
    with pytest.warns(UserWarning, match="taken for the channel") as warned:
        predict(tiny_model, Scan(scan.images[::-1]), tmp_path / "out", SETTINGS)
    assert [str(w.message).split(",")[0] for w in warned] == [
        "t1.nii.gz is taken for the channel flair",
        "flair.nii.gz is taken for the channel t1",
    ]
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["inputs"]["flair"]["file"] == str(scan.t1)


def test_a_reference_is_recorded_by_its_role(
    tmp_path: Path, predicted: Path, scan: TinyScan, tiny_model: Model
) -> None:
    reference = predicted / "instances.nii.gz"
    predict(tiny_model, Scan(scan.images, reference), tmp_path / "out", SETTINGS)
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert list(record["inputs"]) == [*CHANNELS, "reference"]
    assert record["inputs"]["reference"]["file"] == str(reference)


def test_a_voxel_at_the_threshold_is_lesion() -> None:
    probability = np.array([0.2999, 0.3, 0.3001], np.float32).reshape(3, 1, 1)
    segmented = Voxels(probability, None).segmented(float(np.float32(0.3)))
    assert segmented.ravel().tolist() == [False, True, True]
