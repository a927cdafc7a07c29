"""Randomised layers: their order and values, and maps of a tiny network as they are randomised."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from helpers.cohorts import PREDICTION, make_cohort
from helpers.compilations import compilations
from helpers.counted_maps import counted_maps
from helpers.tiny import CHANNELS, ROI
from scipy import ndimage, stats
from skimage.metrics import structural_similarity

from jaxsal.checkpoints import save_model
from jaxsal.devices import computing_on
from jaxsal.errors import InputError
from jaxsal.experiments.derived import generator_of
from jaxsal.experiments.findings import Findings, write_findings
from jaxsal.experiments.randomisation import (
    COLUMNS,
    SUMMARY_COLUMNS,
    RandomisationSettings,
    measured,
    randomisation,
    summary_of,
)
from jaxsal.experiments.randomised_layers import cascade, stages_of
from jaxsal.experiments.study import Study
from jaxsal.field.sliding import sliding_window
from jaxsal.model import Model
from jaxsal.nets.registry import config_from_arguments, parameter_shapes
from jaxsal.preprocessing import Preprocessing
from jaxsal.saliency.methods.smoothgrad import SmoothGradSettings
from jaxsal.saliency.smoothgrad import smoothgrad

SWIN = {"in_channels": 2, "out_channels": 2, "feature_size": 12}


def test_layers_of_a_unet_come_from_the_logits_to_the_input(tiny_model: Model) -> None:
    layers = [stage.layer for stage in stages_of(tiny_model.config)]
    assert layers == [
        "decoder.0.upsample.conv",
        "decoder.1.upsample.conv",
        "bottleneck.conv",
        "encoder.1.conv",
        "encoder.0.conv",
    ]
    stage = stages_of(tiny_model.config)[1]
    parts = {name.removeprefix("decoder.1.upsample.") for name in stage.parameters}
    assert {"conv.kernel", "conv.bias", "norm.scale", "norm.var", "activation.slope"} <= parts


@pytest.mark.parametrize(
    ("kind", "arguments", "first", "last"),
    [
        pytest.param(
            "swin-unetr", SWIN, "head", "embedding.projection", marks=pytest.mark.thorough
        ),
        ("segresnet", {"in_channels": 2, "out_channels": 2}, "head.conv", "stem"),
    ],
)
def test_any_network_has_each_parameter_in_one_stage(
    kind: str, arguments: dict[str, int], first: str, last: str
) -> None:
    config = config_from_arguments(kind, arguments)
    stages = stages_of(config)
    names = [name for stage in stages for name in stage.parameters]
    assert sorted(names) == sorted(parameter_shapes(config))
    assert stages[0].layer == first
    assert stages[-1].layer == last
    assert len({stage.layer for stage in stages}) == len(stages) > 10


def test_randomised_layers_keep_their_values_and_others_their_places(tiny_model: Model) -> None:
    before = {name: np.asarray(value) for name, value in tiny_model.parameters.items()}
    earlier: dict[str, np.ndarray] = {}
    for stage, model in cascade(tiny_model, np.random.default_rng(0)):
        for name, value in model.parameters.items():
            array = np.asarray(value)
            np.testing.assert_array_equal(np.sort(array, axis=None), np.sort(before[name], None))
            if name in stage.parameters:
                assert array.size < 9 or not np.array_equal(array, before[name])
                earlier[name] = array
            else:  # as it was randomised, or not yet
                np.testing.assert_array_equal(array, earlier.get(name, before[name]))
    assert set(earlier) == set(before)


def test_members_of_an_ensemble_keep_their_own_values(tiny_model: Model) -> None:
    both = {name: np.stack([value, value + 100]) for name, value in tiny_model.parameters.items()}
    ensemble = dataclasses.replace(tiny_model, parameters=both, members=2)
    *_, (_, model) = cascade(ensemble, np.random.default_rng(0))
    for name, value in model.parameters.items():
        for own, found in zip(both[name], value, strict=True):
            np.testing.assert_array_equal(np.sort(found, axis=None), np.sort(own, axis=None))


def test_stages_that_are_compared_are_spread_evenly() -> None:
    assert measured(5, None) == measured(5, 9) == {1, 2, 3, 4, 5}
    assert measured(9, 3) == {1, 5, 9}
    for wrong in ({"stages": 1}, {"lesions": 0}):
        with pytest.raises(InputError):
            RandomisationSettings(**wrong)


def test_medians_by_stage() -> None:
    rows = [
        {"scan": s, "subject": s, "label": 1, "stage": 1, "layer": "a", "channel": "t1"}
        | {"spearman": i / 10, "spearman_magnitude": 0.5, "ssim": None}
        for i, s in enumerate("abcdefg")
    ]
    found = {row["figure"]: row for row in summary_of(rows)}
    signed = found["spearman"]
    assert (signed["n"], signed["patients"], signed["value"]) == (7, 7, pytest.approx(0.3))
    assert 0 <= signed["low"] < 0.3 < signed["high"] <= 0.6
    constant = found["spearman_magnitude"]
    assert (constant["low"], constant["high"]) == (0.5, 0.5)
    assert (found["ssim"]["n"], found["ssim"]["value"]) == (0, None)


@pytest.fixture(scope="module")
def study(
    tiny_model: Model, one_device: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Study]:
    folder = tmp_path_factory.mktemp("randomisation")
    saliency = SmoothGradSettings(samples=1, memory=2**30)
    with computing_on(None):
        yield Study(tiny_model, make_cohort(folder, 1), folder / "out", PREDICTION, saliency)


@pytest.fixture(scope="module")
def found(study: Study) -> Findings:
    return randomisation(study, RandomisationSettings(lesions=1, stages=2))


def test_likeness_is_that_of_maps_of_randomised_networks(
    study: Study, found: Findings, tmp_path: Path
) -> None:
    """All of a tiny scan lies within 20 mm of the lesion, so maps are compared as wholes."""
    (scan,) = study.lesions().scans()
    label = found.rows[0]["label"]
    omega = scan.labels == label

    def explained(model: Model, seed: int = 0) -> np.ndarray:
        field = sliding_window(model, roi=ROI)
        maps = smoothgrad(field, scan.image, omega.astype(np.int32), samples=1, seed=seed)
        return maps.dense(1)

    original, again = explained(study.model), explained(study.model, seed=1)
    rng = generator_of(study.entries[0], 0, label)
    (_, first), *_, (_, last) = cascade(study.model, rng)
    others = {0: again, 1: explained(first), 5: explained(last)}
    rows = {(row["stage"], row["channel"]): row for row in found.rows}
    assert set(rows) == {(s, c) for s in (0, 1, 5, None) for c in CHANNELS}
    for stage, other in others.items():
        for c, channel in enumerate(CHANNELS):
            row, (a, b) = rows[stage, channel], (original[..., c], other[..., c])
            signed = stats.spearmanr(a, b, axis=None).statistic
            assert row["spearman"] == pytest.approx(signed, abs=2e-3)  # ties, and rounding
            large = stats.spearmanr(np.abs(a), np.abs(b), axis=None).statistic
            assert row["spearman_magnitude"] == pytest.approx(large, abs=2e-3)
            scaled = [each.astype(float) / np.abs(each).max() for each in (a, b)]
            alike = structural_similarity(*scaled, data_range=2.0)
            assert row["ssim"] == pytest.approx(alike, abs=1e-4)
    away = ndimage.distance_transform_edt(~omega, sampling=scan.grid.spacing)
    near = stats.spearmanr(np.abs(original[..., 0]), -away, axis=None).statistic
    assert rows[None, "flair"]["spearman_magnitude"] == pytest.approx(near, abs=2e-3)
    assert set().union(*found.rows) == set(COLUMNS)
    assert set().union(*found.summary) == set(SUMMARY_COLUMNS)
    assert len(write_findings(found, tmp_path, "randomisation", {}, dpi=20)) == 3
    assert any("medians need 5" in note for note in found.notes)


def test_another_network_is_set_beside_the_stages(
    study: Study, found: Findings, tmp_path: Path
) -> None:
    """The other one is that of the last stage, so its rows are those of that stage."""
    label = found.rows[0]["label"]
    *_, (_, last) = cascade(study.model, generator_of(study.entries[0], 0, label))
    save_model(last, tmp_path / "other")
    own = dataclasses.replace(study, out=tmp_path / "out", notes=[])
    settings = RandomisationSettings(lesions=1, stages=2, models=(tmp_path / "other",))
    rows = randomisation(own, settings).rows
    beside = [row for row in rows if row["layer"] == str(tmp_path / "other")]
    assert len(beside) == len(CHANNELS)
    for row, same in zip(beside, (row for row in rows if row["stage"] == 5), strict=True):
        assert {**row, "stage": 5, "layer": same["layer"]} == same


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"channels": ("flair", "t2")}, "takes the channels flair, t2, the first model flair, t1"),
        ({"preprocessing": Preprocessing(spacing=(2.0, 2.0, 2.0))}, "prepares images otherwise"),
    ],
    ids=["channels", "preprocessing"],
)
def test_a_network_for_other_images_is_refused(
    changed: dict[str, object], message: str, study: Study, tmp_path: Path
) -> None:
    save_model(dataclasses.replace(study.model, **changed), tmp_path / "other")
    with pytest.raises(InputError, match=message):
        randomisation(study, RandomisationSettings(models=(tmp_path / "other",)))


def test_stages_and_networks_that_are_done_stay_whatever_else_is_asked(
    study: Study, found: Findings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of a network that has been moved meanwhile."""
    own = dataclasses.replace(study, out=tmp_path / "out", notes=[])
    shutil.copytree(study.out, own.out)
    (_, first), *_ = cascade(study.model, np.random.default_rng(5))
    save_model(first, tmp_path / "other")
    settings = RandomisationSettings(lesions=1, stages=3)
    both = dataclasses.replace(settings, models=(tmp_path / "other",))
    rows = list(randomisation(own, both).rows)
    fresh = randomisation(dataclasses.replace(own, out=tmp_path / "fresh"), settings).rows
    stages = [row["spearman"] for row in rows if row["stage"] is not None]
    assert stages == pytest.approx([r["spearman"] for r in fresh if r["stage"] is not None])
    (tmp_path / "other").rename(tmp_path / "moved")
    monkeypatch.setattr("jaxsal.experiments.direct.maps_of", None)
    again = randomisation(own, dataclasses.replace(both, models=(tmp_path / "moved",))).rows
    places = {str(tmp_path / "other"): str(tmp_path / "moved")}
    assert list(again) == [{**r, "layer": places.get(r["layer"], r["layer"])} for r in rows]
    fewer = dataclasses.replace(settings, stages=2)
    assert list(randomisation(own, fewer).rows) == list(found.rows)


@pytest.mark.parametrize("twice", [False, True])
def test_the_same_network_is_not_set_beside_itself(
    twice: bool, study: Study, tmp_path: Path
) -> None:
    (_, first), *_ = cascade(study.model, np.random.default_rng(5))
    places = (tmp_path / "one", tmp_path / "two") if twice else (tmp_path / "one",)
    for place in places:
        save_model(first if twice else study.model, place)
    with pytest.raises(InputError, match="is the same network as"):
        randomisation(study, RandomisationSettings(models=places))


def test_no_stage_compiles_anything(study: Study, found: Findings, tmp_path: Path) -> None:
    """Parameters are arguments of programs, which `found` has compiled for the network as it is."""
    own = dataclasses.replace(study, out=tmp_path, notes=[])
    with compilations() as compiled:
        again = randomisation(own, RandomisationSettings(lesions=1))
    assert compiled == []
    assert len(again.rows) == len(CHANNELS) * (1 + 5 + 1)


@pytest.mark.parametrize(
    ("changed", "maps"),
    [
        ({}, 0),
        ({"saliency": {"seed": 1}}, 4),
        ({"saliency": {"noise": 0.2}}, 4),
        ({"experiment": {"stages": 3}}, 2),  # the original, and the stage in the middle
    ],
    ids=str,
)
def test_only_what_is_new_is_computed(
    changed: dict[str, dict[str, int]],
    maps: int,
    study: Study,
    found: Findings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    computed = counted_maps(monkeypatch)
    monkeypatch.setattr("jaxsal.experiments.randomisation.draw", lambda *_: None)
    saliency = dataclasses.replace(study.saliency, **changed.get("saliency", {}))
    own = dataclasses.replace(study, out=tmp_path / "out", saliency=saliency, notes=[])
    shutil.copytree(study.out, own.out)
    settings = RandomisationSettings(lesions=1, stages=2)
    randomisation(own, dataclasses.replace(settings, **changed.get("experiment", {})))
    assert len(computed) == maps  # of all: the original, with other noise, and one per stage


def test_a_tolerance_is_refused(study: Study) -> None:
    saliency = dataclasses.replace(study.saliency, samples=50, tolerance=0.1)
    with pytest.raises(InputError, match=r"the tolerance 0\.1 does not go with this experiment"):
        randomisation(dataclasses.replace(study, saliency=saliency), RandomisationSettings())


def test_a_second_call_computes_nothing(
    study: Study, found: Findings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jaxsal.experiments.direct.maps_of", None)
    monkeypatch.setattr("jaxsal.experiments.each_scan.find_lesions", None)
    monkeypatch.setattr("jaxsal.experiments.randomisation.draw", lambda *_: None)
    settings = RandomisationSettings(lesions=1, stages=2)
    again = randomisation(dataclasses.replace(study, notes=[]), settings)
    assert list(again.rows) == list(found.rows)
