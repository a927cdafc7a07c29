"""Preprocessing: intensities as nnU-Net normalises them, what a model keeps of it."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from jaxsal.box import Box
from jaxsal.errors import InputError
from jaxsal.preprocessing import Normalisation, Outputs, Preprocessing
from jaxsal.resampling import Resampling, Spline

RNG = np.random.default_rng(0)


def preparation(*normalisation: Normalisation) -> Preprocessing:
    return Preprocessing(normalisation, spacing=(1.0, 1.0, 2.0), roi=(8, 8, 4), mirror_axes=(0,))


def scan(channels: int) -> np.ndarray:
    """A block with a hole in one channel, zeros around it."""
    image = np.zeros((9, 8, 7, channels), np.float32)
    image[2:7, 1:6, 2:6] = RNG.uniform(10, 60, (5, 5, 4, channels))
    image[4, 3, 4, 0] = 0
    return image


def test_masked_z_scores_are_over_the_scan_with_its_holes_filled() -> None:
    image = scan(2)
    found = preparation(*[Normalisation("zscore", masked=True)] * 2).apply(image)
    for c in range(2):
        block = image[2:7, 1:6, 2:6, c].astype(np.float64)
        expected = (block - block.mean()) / block.std()
        np.testing.assert_allclose(found[2:7, 1:6, 2:6, c], expected, atol=1e-5)
    assert found[4, 3, 4, 0] < -1  # the hole counts
    assert not found[:2].any()


def test_z_scores_without_a_mask_are_over_the_box_of_the_scan() -> None:
    image = scan(1)
    image[1, 0, 0] = 40  # enlarges the box, not the block
    found = preparation(Normalisation("zscore")).apply(image)
    box = image[1:7, 0:6, 0:6].astype(np.float64)
    np.testing.assert_allclose(found[1:7, 0:6, 0:6], (box - box.mean()) / box.std(), atol=1e-5)
    assert not found[0].any()


def test_ct_intensities_are_clipped_and_scaled_by_the_training_set() -> None:
    values = np.array([-100.0, -10.0, 40.0, 90.0, 500.0], "f4").reshape(5, 1, 1, 1)
    ct = Normalisation("ct", mean=40.0, std=20.0, lower=-10.0, upper=90.0)
    found = preparation(ct).apply(values).ravel()
    np.testing.assert_allclose(found, [-2.5, -2.5, 0, 2.5, 2.5])


@pytest.mark.parametrize(
    ("scheme", "expected"),
    [("rescale", [0, 0.25, 1]), ("rgb", [1 / 255, 2 / 255, 5 / 255]), ("none", [1, 2, 5])],
)
def test_other_schemes(scheme: str, expected: list[float]) -> None:
    values = np.array([1.0, 2.0, 5.0], "f4").reshape(3, 1, 1, 1)
    found = preparation(Normalisation(scheme)).apply(values)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.ravel(), expected, rtol=1e-6)


def test_the_box_holds_all_that_is_not_zero_in_some_channel() -> None:
    image = scan(2)
    image[1, 3, 3, 0] = -4
    image[5, 3, 6, 1] = 2
    cropping = replace(preparation(*[Normalisation("none")] * 2), crop=True)
    assert cropping.box(image) == Box((1, 1, 2), (7, 6, 7))
    whole = Box.whole(image.shape[:3])
    assert replace(cropping, crop=False).box(image) == whole
    assert cropping.box(np.zeros_like(image)) == whole


@pytest.mark.parametrize("scheme", ["zscore", "rescale"])
def test_constant_and_empty_images_stay_finite(scheme: str) -> None:
    for value in (0, 7):
        image = np.full((3, 3, 3, 1), value, np.float32)
        assert np.isfinite(preparation(Normalisation(scheme)).apply(image)).all()


def test_a_model_keeps_how_scans_are_resampled() -> None:
    rules = Resampling(Spline(1, apart=None), Spline(1, anisotropy=2.0), tolerance=0.0)
    told = replace(preparation(Normalisation("none")), resampling=rules, permit="any")
    assert Preprocessing.from_json(json.loads(json.dumps(told.to_json()))) == told
    with pytest.raises(InputError, match="incomplete or was changed"):
        Preprocessing.from_json({**told.to_json(), "resampling": {"images": {"order": 1}}})
    older = {k: v for k, v in told.to_json().items() if k not in ("resampling", "permit")}
    assert Preprocessing.from_json(older).rules == Resampling()  # a folder of before them


def test_images_of_other_channels_are_refused() -> None:
    with pytest.raises(InputError, match="2 channels"):
        preparation(*[Normalisation("none")] * 2).apply(np.ones((2, 2, 2, 1)))


def test_records_survive_the_way_to_json_and_back() -> None:
    prepared = preparation(
        Normalisation("zscore", masked=True),
        Normalisation("ct", mean=1.5, std=2.0, lower=0.0, upper=9.0),
    )
    assert Preprocessing.from_json(json.loads(json.dumps(prepared.to_json()))) == prepared
    outputs = Outputs(("whole", "core"), "sigmoid", target=1)
    assert Outputs.from_json(json.loads(json.dumps(outputs.to_json()))) == outputs


@pytest.mark.parametrize(
    ("entry", "value"),
    [
        ("normalisation", [{"scheme": "histogram"}]),
        ("normalisation", [{"scheme": "ct"}]),
        ("normalisation", 3),
        ("spacing", [1.0, 0.0, 1.0]),
        ("roi", [8, 8]),
        ("overlap", 1.0),
        ("window", 3),
        ("windows", "random"),
    ],
)
def test_changed_records_are_refused(entry: str, value: object) -> None:
    record = preparation(Normalisation("none")).to_json() | {entry: value}
    with pytest.raises(InputError):
        Preprocessing.from_json(record)
    with pytest.raises(InputError):
        Outputs.from_json({"names": ["a"], "probability": "argmax"})
    with pytest.raises(InputError):
        Outputs.from_json({"probability": "softmax"})


@pytest.mark.parametrize(
    "record",
    [{"names": []}, {"names": ["a", "a"]}, {"names": ["a", 3]}, {"names": ["a", " "]}]
    + [{"names": ["a", "b"], "target": target} for target in (2, -1, "b", 0.5)],
    ids=str,
)
def test_outputs_have_names_of_their_own_and_a_target_among_them(record: dict[str, object]) -> None:
    with pytest.raises(InputError, match="output"):
        Outputs.from_json({"probability": "softmax", **record})


def test_the_lesion_is_output_1_or_the_only_one_where_no_target_is_given() -> None:
    assert Outputs(("rest", "lesion", "vessel")).lesion == 1
    assert Outputs(("lesion",), "sigmoid").lesion == 0
    assert Outputs(("whole", "core"), "sigmoid").lesion is None
    assert Outputs(("whole", "core"), "sigmoid", target=0).lesion == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mirror_axes": (0, 0)}, "different ones of 0, 1 and 2"),
        ({"mirror_axes": (3,)}, "different ones of 0, 1 and 2"),
        ({"crop": "false"}, "true or false"),
    ],
)
def test_settings_that_mean_nothing_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        replace(preparation(Normalisation("none")), **change)
