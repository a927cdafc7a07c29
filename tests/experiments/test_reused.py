"""Maps of an earlier run: which are taken, which are refused, and that none is ever written."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.cohorts import PREDICTION, make_cohort
from helpers.tiny import SHAPE, save

from jaxsal.cohort.run import run_cohort
from jaxsal.errors import InputError
from jaxsal.experiments.study import Study
from jaxsal.inputs.entries import Entry, Scan
from jaxsal.model import Model
from jaxsal.saliency.methods.smoothgrad import SmoothGradSettings
from jaxsal.settings import CohortSettings

SALIENCY = SmoothGradSettings(samples=1, memory=2**30)


@pytest.fixture(scope="module")
def entries(tmp_path_factory: pytest.TempPathFactory) -> list[Entry]:
    """Two scans with a lesion each, one that cannot be read, and one that no run knows."""
    folder = tmp_path_factory.mktemp("cohort")
    labels = np.zeros(SHAPE, np.int32)
    labels[8:10, 9:11, 8] = 5
    given = save(folder / "given.nii.gz", labels)
    made = [
        replace(entry, scan=Scan(entry.scan.images, instances=given))
        for entry in make_cohort(folder, 4)
    ]
    made[2].scan.images[0].write_bytes(b"no image")
    return made


@pytest.fixture(scope="module")
def maps(tiny_model: Model, entries: list[Entry], tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("run")
    settings = CohortSettings((SALIENCY,), output="full", portion=3)
    list(run_cohort(tiny_model, entries[:3], root, prediction=PREDICTION, settings=settings))
    return root


def study_of(model: Model, entries: list[Entry], maps: Path, out: Path, **changes: Any) -> Study:
    return replace(Study(model, entries, out, PREDICTION, SALIENCY, maps=maps), **changes)


def content(folder: Path) -> dict[str, tuple[int, bytes]]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(p.relative_to(folder)): (p.stat().st_mtime_ns, p.read_bytes()) for p in files}


@pytest.mark.thorough
def test_only_the_scans_of_the_study_are_told_and_nothing_is_written(
    tiny_model: Model, entries: list[Entry], maps: Path, tmp_path: Path
) -> None:
    before = content(maps)
    study = study_of(tiny_model, [entries[1], entries[2]], maps, tmp_path)
    results = study.lesions()
    assert [scan.id for scan in results.scans()] == [entries[1].id]
    assert [row["label"] for scan in results.scans() for row in scan.rows] == [5]
    assert study.left_out == {entries[2].id}
    (left_out,) = study.notes
    assert f"{entries[2].id} is left out" in left_out
    assert content(maps) == before
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"prediction": replace(PREDICTION, threshold=0.9)}, "prediction.threshold was"),
        ({"saliency": replace(SALIENCY, samples=2)}, "samples was 1, is 2"),
        ({"field": "whole"}, "settings.field was sliding, is whole"),
    ],
)
def test_maps_of_other_settings_are_refused(
    changes: dict[str, Any],
    told: str,
    tiny_model: Model,
    entries: list[Entry],
    maps: Path,
    tmp_path: Path,
) -> None:
    before = content(maps)
    with pytest.raises(InputError, match=told):
        study_of(tiny_model, entries[:1], maps, tmp_path, **changes).lesions()
    assert content(maps) == before


def test_maps_of_another_model_are_refused(
    tiny_model: Model, entries: list[Entry], maps: Path, tmp_path: Path
) -> None:
    parameters = {name: 2 * value for name, value in tiny_model.parameters.items()}
    other = replace(tiny_model, parameters=parameters)
    with pytest.raises(InputError, match="maps of another model"):
        study_of(other, entries[:1], maps, tmp_path).lesions()


def test_scans_that_have_no_maps_are_named(
    tiny_model: Model, entries: list[Entry], maps: Path, tmp_path: Path
) -> None:
    before = content(maps)
    labels = np.zeros(SHAPE, np.int32)
    labels[3:5, 9:11, 8] = 5
    changed = Scan(entries[0].scan.images, instances=save(tmp_path / "other.nii.gz", labels))
    asked = [replace(entries[0], scan=changed), entries[1], entries[3]]
    with pytest.raises(InputError, match="cohort run` over them first") as told:
        study_of(tiny_model, asked, maps, tmp_path).lesions()
    assert f"{entries[0].id} has other files" in str(told.value)
    assert f"{entries[3].id} is not among its results" in str(told.value)
    assert entries[1].id not in str(told.value)
    assert content(maps) == before


def test_a_folder_of_no_run_is_left_as_it_is(
    tiny_model: Model, entries: list[Entry], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="holds no results"):
        study_of(tiny_model, entries[:1], tmp_path / "typo", tmp_path).lesions()
    assert not (tmp_path / "typo").exists()


def test_nobody_is_told_to_overwrite_what_a_study_holds(
    tiny_model: Model, entries: list[Entry], tmp_path: Path
) -> None:
    study = Study(tiny_model, entries[:1], tmp_path, PREDICTION, SALIENCY)
    study.lesions()
    told = r"samples was 1, is 2\. Go on with what it was begun with, or give another folder"
    with pytest.raises(InputError, match=told):
        replace(study, saliency=replace(SALIENCY, samples=2)).lesions()
    facts = tmp_path / "runs" / "lesions" / "run.json"
    begun = json.loads(facts.read_text(encoding="utf-8"))
    begun["identity"]["model"]["parameters_sha256"] = "other"
    facts.write_text(json.dumps(begun), encoding="utf-8")
    with pytest.raises(InputError, match=r"results of another model.*\. Go on with what it was"):
        study.lesions()
