"""Files that do not belong together are warned of, by whichever way they are read."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from helpers.tiny import CHANNELS, ROI, SHAPE, TinyScan, save
from scipy import ndimage

from jaxsal import run_cohort
from jaxsal.cohort.check import check
from jaxsal.evaluation.scans import evaluate
from jaxsal.experiments.each_scan import each_scan
from jaxsal.experiments.study import Study
from jaxsal.inputs.entries import Entry, Scan
from jaxsal.inputs.images import load_scan
from jaxsal.model import Model
from jaxsal.saliency.methods.smoothgrad import SmoothGradSettings
from jaxsal.scan.explain import explain
from jaxsal.scan.predict import predict
from jaxsal.scan.prediction import find_lesions
from jaxsal.settings import CohortSettings, ExplainSettings, PredictSettings

MOVED, OTHER = "does not seem to lie on flair.nii.gz", "check that it is of this scan"
NONE_FOUND = "no voxel is segmented: the highest lesion probability is"
# So that there are enough lesions to say something of their reference.
SETTINGS = PredictSettings(roi=ROI, threshold=0.7, minimum_volume=0.0)
NOTHING = replace(SETTINGS, threshold=0.9999)
SALIENCY = SmoothGradSettings(samples=1, memory=2**30)


@pytest.fixture(scope="module")
def mixed_up(scan: TinyScan, tiny_model: Model, tmp_path_factory: pytest.TempPathFactory) -> Entry:
    """The tiny scan's FLAIR, its T1 moved by three voxels, and a reference moved by six."""
    folder = tmp_path_factory.mktemp("mixed up")
    smooth = ndimage.gaussian_filter(np.random.default_rng(0).standard_normal(SHAPE), 1.2)
    values = (1 + smooth / 9 / smooth.std()) * 400 * (scan.image[..., 0] != 0)
    paths = [folder / f"{channel}.nii.gz" for channel in CHANNELS]
    save(paths[0], values.astype(np.float32), scan.affine)
    save(paths[1], np.roll(values, 3, axis=1).astype(np.float32), scan.affine)
    loaded = load_scan(Scan(tuple(paths)), tiny_model.channels, tiny_model.preprocessing)
    found = find_lesions(tiny_model, loaded, SETTINGS).segmented
    other = save(folder / "other.nii.gz", np.roll(found, 6, axis=1).astype(np.uint8), scan.affine)
    return Entry("1", Scan(tuple(paths), reference=other), {"subject": "1"})


def of_cohort(model: Model, entry: Entry, finding: PredictSettings, _: Path) -> str:
    settings = CohortSettings((SALIENCY,), output="table")
    (result,) = run_cohort(model, [entry], prediction=finding, settings=settings)
    return result.reason


def of_evaluation(model: Model, entry: Entry, finding: PredictSettings, _: Path) -> str:
    (evaluation,) = evaluate(model, [entry], finding)
    return "; ".join(evaluation.notes)


def of_experiment(model: Model, entry: Entry, finding: PredictSettings, out: Path) -> str:
    """By one that asks of each scan, and by the same when all is computed already."""
    first, again = (Study(model, [entry], out, finding) for _ in range(2))
    for study in (first, again):
        assert each_scan(study, "any", {}, lambda *_: [{"found": 1}])
    assert again.notes == first.notes
    return "; ".join(again.notes)


NOTED = [pytest.param(of_cohort, marks=pytest.mark.thorough), of_evaluation, of_experiment]


@pytest.mark.parametrize("noted", NOTED)
def test_cohorts_note_it(
    noted: Callable[..., str], tiny_model: Model, mixed_up: Entry, tmp_path: Path
) -> None:
    found = noted(tiny_model, mixed_up, SETTINGS, tmp_path)
    assert MOVED in found
    assert OTHER in found
    assert NONE_FOUND not in found


@pytest.mark.parametrize("noted", NOTED)
def test_cohorts_note_a_scan_of_which_no_voxel_is_segmented(
    noted: Callable[..., str], tiny_model: Model, mixed_up: Entry, tmp_path: Path
) -> None:
    found = noted(tiny_model, mixed_up, NOTHING, tmp_path)
    assert MOVED in found
    assert NONE_FOUND in found


@pytest.mark.parametrize("command", ["predict", "explain"])
def test_commands_for_a_scan_warn(
    command: str, tiny_model: Model, mixed_up: Entry, tmp_path: Path
) -> None:
    given = tiny_model, mixed_up.scan, tmp_path / "out", SETTINGS
    settings = ExplainSettings(SALIENCY, labels=(1,), pictures=False)
    run = partial(predict, *given) if command == "predict" else partial(explain, *given, settings)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        run()
    said = [str(each.message) for each in warned]
    assert [MOVED in said[0], OTHER in said[1], len(said)] == [True, True, 2]


def test_a_check_warns_of_the_images(mixed_up: Entry) -> None:
    (problem,) = check([mixed_up], CHANNELS, processes=1)
    assert (problem.role, problem.severity) == ("t1", "warning")
    assert MOVED in problem.message
    assert check([mixed_up], CHANNELS, processes=1, headers_only=True) == []
