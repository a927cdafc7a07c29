"""A model's own preprocessing, window and outputs are used where the user gives nothing else."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.tiny import ROI, TinyScan

from jaxsal.checkpoints import save_model
from jaxsal.cli.main import main
from jaxsal.errors import InputError
from jaxsal.inputs.images import read_image
from jaxsal.lesions import lesion_probability
from jaxsal.model import Model
from jaxsal.preprocessing import Normalisation, Outputs, Preprocessing
from jaxsal.scan.prediction import completed, for_model
from jaxsal.settings import PredictSettings

SPACING = (1.0, 0.9, 1.2)  # of the tiny scan
TOLD = Preprocessing((Normalisation("zscore", masked=True),) * 2, SPACING, ROI, overlap=0.5)
NOTHING: dict[str, Any] = {"roi": None, "overlap": None, "target": None}


def settings(model: Model, **given: Any) -> PredictSettings:
    return for_model(PredictSettings(), model, **{**NOTHING, **given})


def test_the_models_window_is_used_unless_another_is_given(tiny_model: Model) -> None:
    assert settings(tiny_model) == PredictSettings(target=1)
    told = replace(tiny_model, preprocessing=TOLD)
    assert (settings(told).roi, settings(told).overlap) == (ROI, 0.5)
    given = settings(told, roi=(8, 8, 8), overlap=0.0)
    assert (given.roi, given.overlap) == ((8, 8, 8), 0.0)


def test_the_window_of_the_training_goes_before_that_of_its_start(tiny_model: Model) -> None:
    trained = replace(tiny_model, roi=(16, 8, 16), overlap=0.0)
    for model in (trained, replace(trained, preprocessing=TOLD)):
        assert (settings(model).roi, settings(model).overlap) == ((16, 8, 16), 0.0)
        given = settings(model, roi=(8, 8, 8), overlap=0.5)
        assert (given.roi, given.overlap) == ((8, 8, 8), 0.5)


def test_windows_are_placed_as_the_model_tells_unless_told_otherwise(tiny_model: Model) -> None:
    told = replace(tiny_model, preprocessing=replace(TOLD, windows="nnunet"))
    assert settings(tiny_model).windows == "monai"
    assert settings(told).windows == "nnunet"
    assert settings(told, windows="monai").windows == "monai"


def test_outputs_are_found_by_number_or_name(tiny_model: Model) -> None:
    named = replace(tiny_model, outputs=Outputs(("background", "lesion")))
    assert settings(named).target == 1
    assert settings(named, target="background").target == 0
    with pytest.raises(InputError, match="no output 'cyst'; its outputs are background, lesion"):
        settings(named, target="cyst")
    with pytest.raises(InputError, match="one of the network's 2 outputs"):
        settings(named, target=2)
    with pytest.raises(InputError, match="does not name its outputs"):
        settings(tiny_model, target="lesion")


def test_the_models_own_target_is_taken_unless_another_is_given(tiny_model: Model) -> None:
    model = replace(tiny_model, outputs=Outputs(("lesion", "background"), target=0))
    assert settings(model).target == 0
    assert settings(model, target="background").target == 1
    assert completed(PredictSettings(), model) == PredictSettings(
        target=0, threshold=model.threshold
    )


def test_regions_must_be_named_where_there_are_several(tiny_model: Model) -> None:
    regions = replace(tiny_model, outputs=Outputs(("whole", "core"), "sigmoid"))
    with pytest.raises(InputError, match=r"whole, core.*--target"):
        settings(regions)
    assert settings(regions, target="core").target == 1
    with pytest.raises(InputError, match="2 outputs and each needs a name; got 1: whole"):
        replace(tiny_model, outputs=Outputs(("whole",), "sigmoid"))


def test_regions_have_a_probability_of_their_own() -> None:
    logits = np.log(np.array([[[[3.0, 1 / 4]]]]))
    for target, expected in enumerate((3 / 4, 1 / 5)):
        found = lesion_probability(logits, target, "sigmoid")
        np.testing.assert_allclose(found, [[[expected]]])


def test_images_are_normalised_as_the_model_was_trained(scan: TinyScan) -> None:
    image, _ = read_image(scan.images, ("flair", "t1"), TOLD)
    np.testing.assert_allclose(image, scan.image, atol=1e-5)  # no zeros inside this head
    raw = replace(TOLD, normalisation=(Normalisation("none"), Normalisation("rgb")))
    image, _ = read_image(scan.images, ("flair", "t1"), raw)
    assert image[..., 0].max() > 255 > image[..., 1].max() * 100


def test_other_voxels_are_refused_where_they_may_not_be_resampled(scan: TinyScan) -> None:
    told = replace(TOLD, spacing=(1.0, 1.0, 1.0), permit="none")
    with pytest.raises(InputError, match=r"flair\.nii\.gz.*1 × 1 × 1 mm.*1 × 0\.9 × 1\.2 mm"):
        read_image(scan.images, ("flair", "t1"), told)


def test_the_command_follows_the_model(scan: TinyScan, tiny_model: Model, tmp_path: Path) -> None:
    outputs = Outputs(("lesion", "rest"), target=0)
    model = replace(tiny_model, preprocessing=TOLD, outputs=outputs)
    save_model(model, tmp_path / "model")
    images = [part for path in scan.images for part in ("--image", str(path))]
    command = ["predict", str(tmp_path / "model"), *images, "--out", str(tmp_path / "out")]
    for options, target in (["--overwrite"], 0), (["--overwrite", "--target", "rest"], 1):
        assert main([*command, *options]) == 0
        used = json.loads((tmp_path / "out" / "run.json").read_text())["settings"]["prediction"]
        assert (tuple(used["roi"]), used["overlap"], used["target"]) == (ROI, 0.5, target)
