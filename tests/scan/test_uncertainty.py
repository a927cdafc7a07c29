"""How uncertain a network is of a scan: members, maps over them, and columns of lesions."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from helpers.peers import ROI as PEER_ROI
from helpers.peers import converted, monai_network
from helpers.tiny import MISSED, ROI, SHAPE, TinyScan, load, read_table, save
from monai.inferers import sliding_window_inference
from scipy import stats

from jaxsal.box import Box
from jaxsal.errors import InputError
from jaxsal.field.sliding import sliding_window
from jaxsal.grid import Grid
from jaxsal.inputs.entries import Scan
from jaxsal.inputs.images import LoadedScan, load_scan
from jaxsal.lesions import components, instances_of
from jaxsal.model import Model
from jaxsal.nets.unet_config import UNetConfig
from jaxsal.preprocessing import Preprocessing
from jaxsal.saliency.methods.smoothgrad import SmoothGradSettings
from jaxsal.saliency.noise import noisy_images
from jaxsal.scan.candidates import candidates_of
from jaxsal.scan.members import count_members, members_of
from jaxsal.scan.predict import predict
from jaxsal.scan.prediction import voxels_of
from jaxsal.scan.uncertain_lesions import field_of
from jaxsal.scan.uncertainty import Moments, Overlaps, predictive_entropy
from jaxsal.settings import PredictSettings, UncertaintySettings

FINDING = PredictSettings(roi=ROI)
GRID = Grid((6, 4, 3), np.diag([1.0, 2.0, 1.0, 1.0]))


def loaded_of(image: np.ndarray) -> LoadedScan:
    grid = Grid(image.shape[:3], np.eye(4))
    return LoadedScan(image, grid, Box.whole(grid.shape))


def probabilities(
    model: Model, loaded: LoadedScan, settings: UncertaintySettings, finding: PredictSettings
) -> list[np.ndarray]:
    found = members_of(model, loaded, finding, settings)
    return [
        voxels_of(field_of(each, finding), model, each.scan, finding).probability for each in found
    ]


def test_moments_are_those_of_all_at_once() -> None:
    values = np.random.default_rng(0).normal(1e3, 1, size=(7, 3, 4)).astype(np.float32)
    moments = Moments()
    for each in values:
        moments.add(each)
    exact = values.astype(np.float64)  # about 1e-13 relative to the mean, squared
    np.testing.assert_allclose(moments.mean, exact.mean(0), rtol=1e-12)
    np.testing.assert_allclose(moments.variance, exact.var(0), rtol=1e-7)


def test_entropy_is_in_nats_and_0_where_nothing_is_in_doubt() -> None:
    probability = np.array([0.0, 0.1, 0.5, 1.0])
    expected = [stats.entropy([p, 1 - p]) for p in probability]
    np.testing.assert_allclose(predictive_entropy(probability), expected, rtol=1e-12)
    assert predictive_entropy(np.array(0.5)) == pytest.approx(np.log(2))


def line(*labels: int) -> np.ndarray:
    """Voxels along X, the others 0."""
    found = np.zeros(GRID.shape, np.int32)
    found[: len(labels), 0, 0] = labels
    return found


def test_lsu_takes_the_lesion_of_each_member_that_overlaps_most() -> None:
    lesions = line(2, 2, 2, 0, 7)
    overlaps = Overlaps(lesions, instances_of(lesions, GRID))
    overlaps.add(line(1, 1, 1, 0, 0))  # IoU 1 of the first, 0 of the second
    overlaps.add(line(1, 0, 2, 2, 2))  # 1/3 and 1/5: their union would have 2/5; 1/3 of the second
    overlaps.add(np.zeros(GRID.shape, np.int32))  # found nothing
    entropy = np.where(lesions == 2, 0.3, 0.1)
    rows = overlaps.rows(entropy)
    assert rows[2] == pytest.approx({"lsu": 1 - (1 + 1 / 3) / 3, "entropy": 0.3})
    assert rows[7] == pytest.approx({"lsu": 1 - (1 / 3) / 3, "entropy": 0.1})


def test_a_scan_without_lesions_has_no_rows() -> None:
    overlaps = Overlaps(line(), [])
    overlaps.add(line(1, 1))
    assert overlaps.rows(np.zeros(GRID.shape)) == {}


def test_candidates_are_uncertain_and_touch_no_lesion() -> None:
    entropy, found = np.zeros((9, 5, 3)), np.zeros((9, 5, 3), bool)
    found[0:2, 0, 0] = True
    entropy[0:4, 0, 0] = 0.5  # the rim of what was found
    entropy[6, 0:3, 0] = 0.4
    entropy[8, 4, 2] = 0.6  # a single voxel
    grid = Grid((9, 5, 3), np.diag([1.0, 2.0, 1.0, 1.0]))
    labels = candidates_of(entropy, found, 0.4, grid, minimum_volume=5.0)
    expected = np.zeros_like(labels)
    expected[6, 0:3, 0] = 1  # 3 voxels of 2 mm³
    np.testing.assert_array_equal(labels, expected)
    assert not candidates_of(entropy, found, 0.41, grid, 5.0).any()
    assert candidates_of(entropy, found, 0.4, grid, 0.0).max() == 2


def test_mirrored_members_are_pytorchs_on_flipped_windows() -> None:
    image = np.random.default_rng(2).normal(size=(20, 16, 18, 2)).astype(np.float32)
    finding = PredictSettings(roi=PEER_ROI)
    settings = UncertaintySettings("mirror")
    found = probabilities(converted("global"), loaded_of(image), settings, finding)
    network, batch = monai_network("global"), torch.tensor(image).movedim(-1, 0)[None]
    assert len(found) == 8
    for member, along in zip(found, product((False, True), repeat=3), strict=True):
        axes = [2 + axis for axis in range(3) if along[axis]]

        def mirrored(x: torch.Tensor, axes: list[int] = axes) -> torch.Tensor:
            return network(x.flip(axes)).flip(axes)

        logits = sliding_window_inference(batch, PEER_ROI, 1, mirrored, 0.25, mode="gaussian")
        expected = logits.softmax(1)[0, 1].numpy()
        np.testing.assert_allclose(member, expected, atol=1e-5)  # float32 logits of about 1
    assert np.ptp(np.stack(found), axis=0).max() > 0.01


def test_mirrored_members_keep_to_the_axes_of_the_training(tiny_model: Model) -> None:
    known = replace(tiny_model, preprocessing=Preprocessing(mirror_axes=(0, 2)))
    assert count_members(known, FINDING, UncertaintySettings("mirror")) == 4
    unknown = replace(tiny_model, preprocessing=Preprocessing())
    assert count_members(unknown, FINDING, UncertaintySettings("mirror")) == 8
    none = replace(tiny_model, preprocessing=Preprocessing(mirror_axes=()))
    with pytest.raises(InputError, match="choose another --uncertainty"):
        count_members(none, FINDING, UncertaintySettings("mirror"))


def test_noisy_members_are_predictions_of_smoothgrads_noisy_images(
    tiny_model: Model, scan: TinyScan
) -> None:
    settings = UncertaintySettings("noise", members=2, member_noise=0.1, member_seed=3)
    found = probabilities(tiny_model, loaded_of(scan.image), settings, FINDING)
    noise = SmoothGradSettings(samples=2, noise=0.1, seed=3)
    noisy = noisy_images(scan.image, noise, None)
    images = noisy.make(jnp.asarray(scan.image), noisy.common, noisy.of_each(np.arange(2)))
    for member, image in zip(found, np.asarray(images), strict=True):
        logits = torch.tensor(np.array(sliding_window(tiny_model, roi=ROI)(image)))
        np.testing.assert_allclose(member, logits.softmax(-1)[..., 1].numpy(), atol=1e-6)


def test_folds_are_the_networks_of_an_ensemble(tiny_model: Model, scan: TinyScan) -> None:
    other = {name: 1.1 * value for name, value in tiny_model.parameters.items()}
    both = {name: jnp.stack([v, other[name]]) for name, v in tiny_model.parameters.items()}
    ensemble = replace(tiny_model, parameters=both, members=2)
    loaded = loaded_of(scan.image)
    found = probabilities(ensemble, loaded, UncertaintySettings("folds"), FINDING)
    for member, parameters in zip(found, (tiny_model.parameters, other), strict=True):
        single = replace(tiny_model, parameters=parameters)
        logits = torch.tensor(np.array(sliding_window(single, roi=ROI)(scan.image)))
        np.testing.assert_allclose(member, logits.softmax(-1)[..., 1].numpy(), atol=1e-6)


def with_dropout(rate: float) -> Model:
    config = UNetConfig.from_arguments(
        {"in_channels": 1, "out_channels": 1, "channels": [4, 6], "strides": [2], "dropout": rate}
    )
    return Model.initialise(config, ("flair",))


def test_draws_of_the_dropout_differ_and_come_again(scan: TinyScan) -> None:
    settings = UncertaintySettings("dropout", members=2, member_seed=5)
    image, model = scan.image[..., :1], with_dropout(0.3)
    one, two = (probabilities(model, loaded_of(image), settings, FINDING) for _ in range(2))
    np.testing.assert_array_equal(one, two)
    assert np.abs(one[0] - one[1]).max() > 1e-3
    other = replace(settings, member_seed=6)
    assert np.abs(probabilities(model, loaded_of(image), other, FINDING)[0] - one[0]).max() > 1e-3


REFUSED: dict[str, tuple[Callable[[Model], Model], dict[str, Any], dict[str, Any], str]] = {
    "single": (lambda m: m, {"uncertainty": "folds"}, {}, "a single network: convert"),
    "without": (lambda m: m, {"uncertainty": "dropout"}, {}, "dynunet.*this unet has none"),
    "rate 0": (lambda m: with_dropout(0.0), {"uncertainty": "dropout"}, {}, "has none"),
    "mirrored": (lambda m: with_dropout(0.1), {"uncertainty": "dropout"}, {"mirror": True}, "pass"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_members_that_a_network_does_not_have_are_refused(
    name: str, tiny_model: Model, scan: TinyScan, tmp_path: Path
) -> None:
    change, settings, finding, told = REFUSED[name]
    out = tmp_path / "out"
    with pytest.raises(InputError, match=told):
        predict(
            change(tiny_model),
            Scan(scan.images),
            out,
            replace(FINDING, **finding),
            uncertainty=UncertaintySettings(**settings),
        )
    assert not out.exists()


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"uncertainty": "luck"}, "noise, mirror, folds, dropout"),
        ({"uncertainty": "mirror", "members": 3}, "members is for noise and dropout"),
        ({"uncertainty": "dropout", "member_noise": 0.1}, "member_noise is for noise"),
        ({"members": 1}, "at least 2"),
        ({"member_noise": 0.0}, "more than zero"),
        ({"member_seed": -1}, "seed"),
        ({"candidates": 0.7}, "0.693"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        UncertaintySettings(**settings)


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    mask = np.zeros(SHAPE, np.uint8)
    mask[MISSED] = 1
    return save(tmp_path_factory.mktemp("reference") / "reference.nii.gz", mask)


def test_predict_writes_maps_columns_and_candidates(
    tiny_model: Model, scan: TinyScan, reference: Path, tmp_path: Path
) -> None:
    settings = UncertaintySettings("noise", members=3, member_noise=0.2, candidates=0.69)
    files, out = Scan(scan.images, reference=reference), tmp_path / "out"
    predict(tiny_model, files, out, FINDING, uncertainty=settings)
    loaded = load_scan(files, tiny_model.channels, None)
    members = np.stack(probabilities(tiny_model, loaded, settings, FINDING)).astype(np.float64)
    mean, labels = members.mean(0), load(out / "instances.nii.gz")
    entropy = stats.entropy(np.stack([mean, 1 - mean]))
    np.testing.assert_allclose(load(out / "entropy.nii.gz"), entropy, atol=1e-6)
    np.testing.assert_allclose(load(out / "variance.nii.gz"), members.var(0), atol=1e-8)
    rows = read_table(out / "instances.tsv")
    assert [row["kind"] for row in rows] == ["FP", "FP", "FP", "FN"]
    theirs = [components(each >= tiny_model.threshold, 1.08) for each in members]
    for row in rows:
        lesion = labels == int(row["label"])
        assert float(row["entropy"]) == pytest.approx(entropy[lesion].mean(), rel=1e-4)
        best = [
            max(
                (lesion & own).sum() / (lesion | own).sum() for own in (their == n for n in numbers)
            )
            for their in theirs
            for numbers in [np.unique(their[their > 0])]
        ]
        assert float(row["lsu"]) == pytest.approx(1 - np.mean(best), abs=1e-5)
    segmented = load(out / "prediction.nii.gz") >= tiny_model.threshold
    grid = loaded.grid
    expected = candidates_of(entropy.astype(np.float32), segmented, 0.69, grid, 5.0)
    np.testing.assert_array_equal(load(out / "candidates.nii.gz"), expected)
    assert expected.any()
    assert not (expected[segmented] > 0).any()
    recorded = json.loads((out / "run.json").read_text())["settings"]["uncertainty"]
    assert recorded == asdict(settings)
