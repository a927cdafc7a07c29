"""Networks that are given only the box of what is not zero: results lie on the scan's grid."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.tiny import CHANNELS, ROI, SHAPE, TinyScan, assert_same_map, load, save
from scipy import special

import jaxsal
from jaxsal.errors import InputError
from jaxsal.inputs.entries import Scan
from jaxsal.model import Model
from jaxsal.preprocessing import Normalisation, Preprocessing
from jaxsal.saliency.methods.gradcam import GradCamSettings
from jaxsal.saliency.methods.smoothgrad import SmoothGradSettings
from jaxsal.scan.explain import explain
from jaxsal.scan.predict import predict
from jaxsal.settings import ExplainSettings, PredictSettings

SMOOTHGRAD = SmoothGradSettings(samples=2, seed=5)
SETTINGS = ExplainSettings(SMOOTHGRAD, pictures=False, full_grid=True)
FINDING = PredictSettings(roi=ROI, overlap=0.5, windows="nnunet")
BOX = (slice(2, 22), slice(2, 26), slice(2, 18))


@pytest.fixture(scope="module")
def model(tiny_model: Model) -> Model:
    normalisation = (Normalisation("zscore", masked=True),) * 2
    told = Preprocessing(normalisation, (1.0, 0.9, 1.2), ROI, crop=True, mirror_axes=(0, 2))
    return replace(tiny_model, preprocessing=told)


def lesions(folder: Path, scan: TinyScan, *places: tuple[int, int, int]) -> Path:
    """A label map with a lesion of two voxels along X at each place."""
    labels = np.zeros(SHAPE, np.int32)
    for label, (x, y, z) in enumerate(places, 1):
        labels[x : x + 2, y, z] = label
    return save(folder / "labels.nii.gz", labels, scan.affine)


def field_of(model: Model) -> jaxsal.field.SlidingWindow:
    return jaxsal.sliding_window(model, roi=ROI, overlap=0.5, windows="nnunet")


@pytest.mark.parametrize("mirror", [False, True])
def test_the_prediction_is_that_of_the_box_and_zero_around(
    tmp_path: Path, scan: TinyScan, model: Model, mirror: bool
) -> None:
    assert np.count_nonzero(scan.image[BOX]) == np.count_nonzero(scan.image)
    predict(model, Scan(scan.images), tmp_path / "out", replace(FINDING, mirror=mirror))
    used = model.with_mirroring() if mirror else model
    logits = np.asarray(field_of(used)(scan.image[BOX]))
    expected = np.zeros(SHAPE)
    expected[BOX] = special.softmax(logits, axis=-1)[..., 1]
    found = load(tmp_path / "out" / "prediction.nii.gz")
    np.testing.assert_allclose(found, expected, atol=1e-5)
    record = json.loads((tmp_path / "out" / "run.json").read_text())["settings"]["prediction"]
    assert record["box"] == [[2, 22], [2, 26], [2, 18]]
    assert (record["windows"], record["mirror"]) == ("nnunet", mirror)


def test_maps_lie_in_place(tmp_path: Path, scan: TinyScan, model: Model) -> None:
    instances = lesions(tmp_path, scan, (9, 10, 9), (1, 14, 10))  # the second reaches out of it
    explain(model, Scan(scan.images, instances=instances), tmp_path / "out", FINDING, SETTINGS)
    maps = jaxsal.smoothgrad(
        field_of(model), scan.image[BOX], load(instances)[BOX], samples=2, seed=5
    )
    for label in (1, 2):
        for c, channel in enumerate(CHANNELS):
            name = f"maps/lesion-{label:04d}_{channel}_smoothgrad-max.nii.gz"
            found, expected = load(tmp_path / "out" / name), np.zeros(SHAPE)
            expected[BOX] = maps.dense(label)[..., c]
            assert np.abs(expected).max() > 0
            np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.thorough  # places of heat maps: saliency/gradcam/test_places.py
@pytest.mark.parametrize("mirror", [False, True])
def test_heat_maps_lie_in_place(tmp_path: Path, scan: TinyScan, model: Model, mirror: bool) -> None:
    instances = lesions(tmp_path, scan, (9, 10, 9))
    files = Scan(scan.images, instances=instances)
    settings = replace(SETTINGS, saliency=GradCamSettings("encoder.0"))
    explain(model, files, tmp_path / "out", replace(FINDING, mirror=mirror), settings)
    used = model.with_mirroring() if mirror else model
    maps = jaxsal.gradcam_plus_plus(
        used, scan.image[BOX], load(instances)[BOX], layer="encoder.0", field=field_of(used)
    )
    found = load(tmp_path / "out" / "maps" / "lesion-0001_gradcam++.nii.gz")
    expected = np.zeros(SHAPE, np.float32)
    expected[BOX] = maps.dense(1)
    assert_same_map(found, expected)


def test_a_lesion_that_the_network_is_never_given_is_named(
    tmp_path: Path, scan: TinyScan, model: Model
) -> None:
    instances = Scan(scan.images, instances=lesions(tmp_path, scan, (9, 10, 9), (0, 14, 10)))
    with pytest.raises(InputError, match=r"nothing to explain of lesion 2: .* --labels"):
        explain(model, instances, tmp_path / "out", FINDING, replace(SETTINGS, labels=(1, 2)))
    with pytest.warns(match="lesion 2: .* left out"):
        rows = explain(model, instances, tmp_path / "out", FINDING, SETTINGS)
    assert [row["label"] for row in rows] == [1]


def test_the_class_level_leaves_out_what_is_never_given(
    tmp_path: Path, scan: TinyScan, model: Model
) -> None:
    instances = Scan(scan.images, instances=lesions(tmp_path, scan, (0, 14, 10)))
    rows = explain(model, instances, tmp_path / "out", FINDING, replace(SETTINGS, level="class"))
    assert rows == []


def test_mirroring_is_refused_for_models_that_tell_of_no_axes(
    tmp_path: Path, scan: TinyScan, tiny_model: Model
) -> None:
    with pytest.raises(InputError, match="leave out --mirror"):
        predict(tiny_model, Scan(scan.images), tmp_path / "out", replace(FINDING, mirror=True))
