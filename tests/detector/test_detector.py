"""A detector fitted on tiny results: its file, what it refuses, and what it leaves of a cohort."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.cohorts import run
from helpers.tiny import contents, load, read_table
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from jaxsal.cli.main import main
from jaxsal.cohort.results import CohortResults
from jaxsal.cohort.status import cohort_status
from jaxsal.detector.detector import read_detector
from jaxsal.detector.features import feature_columns, scan_features
from jaxsal.devices import computing_on
from jaxsal.errors import InputError
from jaxsal.model import Model


@pytest.fixture(scope="module")
def file(judged: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("detectors") / "detector.json"
    assert main(["detector", "fit", str(judged.out), "--out", str(path), "--lost", "0.2"]) == 0
    return path


@pytest.fixture(scope="module")
def pruned(judged: Any, file: Path) -> Path:
    before = contents(judged.out)
    assert main(["detector", "apply", str(file), str(judged.out)]) == 0
    assert contents(judged.out) == before
    return judged.out.with_name("results-pruned")


def test_it_says_of_each_lesion_what_scikit_learn_does(
    judged: Any, file: Path, pruned: Path
) -> None:
    results = CohortResults(judged.out)
    method = results.methods["smoothgrad-max"]
    measured = [row for scan in results.scans() for row in scan_features(scan, method)]
    rows = [row for row in measured if row["kind"] != "FN"]
    features = np.array([[row[name] for name in feature_columns(("flair", "t1"))] for row in rows])
    true = [row["kind"] == "TP" for row in rows]
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(max_iter=10_000))
    expected = pipeline.fit(features, true).predict_proba(features)[:, 1]
    table = {(row["scan"], row["label"]): row for row in read_table(pruned / "lesions.tsv")}
    found = [float(table[row["scan"], str(row["label"])]["p_true"]) for row in rows]
    np.testing.assert_allclose(found, expected, rtol=1e-5)  # the table has six digits
    assert {row["p_true"] for row in table.values() if row["kind"] == "FN"} == {""}
    detector = read_detector(file)
    assert (detector.true_lesions, detector.false_lesions) == (sum(true), len(true) - sum(true))
    assert np.sort(expected[true])[1] == pytest.approx(detector.threshold)  # one of six is lost
    assert json.loads((pruned / "run.json").read_text())["command"] == "detector apply"


def test_masks_hold_the_lesions_that_are_kept(judged: Any, pruned: Path) -> None:
    table = read_table(pruned / "lesions.tsv")
    assert {row["kept"] for row in table} == {"0", "1"}
    for scan in CohortResults(judged.out).scans():
        (path,) = pruned.glob(f"{'/'.join(scan.record.stem.split('_'))}/anat/*_mask.nii.gz")
        kept = [int(r["label"]) for r in table if r["scan"] == scan.id and r["kept"] == "1"]
        np.testing.assert_array_equal(load(path), np.isin(scan.labels, kept))


def test_the_cohort_s_results_stay_as_they_were(
    tiny_model: Model, judged: Any, pruned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jaxsal.cohort.job.maps_of", None)  # nothing is computed again
    with computing_on(None):
        assert {result.status for result in run(tiny_model, judged.entries, judged.out)} == {
            "finished"
        }
    assert cohort_status(judged.out, verify=True).damaged == []


def change(**values: Any) -> Callable[[dict[str, Any]], None]:
    return lambda content: content.update(values)


MISTAKES: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "unknown": (change(thresold=0.5), "unknown key thresold; did you mean threshold"),
    "missing": (lambda content: content.pop("intercept"), "needs the key intercept"),
    "text": (change(threshold="0.5"), "threshold must be a number; got '0.5'"),
    "range": (change(threshold=1.5), "threshold must be from 0 to 1"),
    "zero": (lambda content: content["scales"].__setitem__(0, 0), "scales must be more than zero"),
    "short": (lambda content: content["means"].pop(), "means must be one number for each"),
    "infinite": (change(intercept=1e999), "intercept"),
    "features": (lambda content: content["features"].reverse(), "fit the detector again"),
    "bins": (change(bins=32), "fit the detector again"),
}


@pytest.mark.parametrize("name", sorted(MISTAKES))
def test_a_file_with_a_mistake_is_refused(name: str, file: Path, tmp_path: Path) -> None:
    content = json.loads(file.read_text())
    mistake, message = MISTAKES[name]
    mistake(content)
    wrong = tmp_path / "wrong.json"
    wrong.write_text(json.dumps(content))
    with pytest.raises(InputError, match=message):
        read_detector(wrong)


OTHERS: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "method": (change(method="gradcam++"), r"maps of gradcam\+\+; .* has maps of smoothgrad-max"),
    "settings": (
        lambda content: content["identity"]["saliency"].update(samples=7),
        "other settings: saliency.samples was 7, is 2",
    ),
    "channels": (
        lambda content: content["identity"]["model"].update(channels=["t1", "flair"]),
        r"model.channels was \['t1', 'flair'\], is \['flair', 't1'\]",
    ),
    "model": (
        lambda content: content["identity"]["model"].update(parameters_sha256="0"),
        "another model",
    ),
}


@pytest.mark.parametrize("name", sorted(OTHERS))
def test_other_results_are_refused_and_nothing_is_written(
    name: str, judged: Any, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = json.loads(file.read_text())
    mistake, message = OTHERS[name]
    mistake(content)
    other, out = tmp_path / "other.json", tmp_path / "out"
    other.write_text(json.dumps(content))
    assert main(["detector", "apply", str(other), str(judged.out), "--out", str(out)]) == 2
    assert re.search(message, capsys.readouterr().err)
    assert not out.exists()


def test_a_model_is_known_by_its_parameters_whatever_file_it_came_from(
    judged: Any, file: Path, tmp_path: Path
) -> None:
    renamed = tmp_path / "renamed"
    shutil.copytree(judged.out, renamed)
    record = json.loads((renamed / "run.json").read_text())
    record["identity"]["model"]["source"] = {"file": "other.pth"}
    (renamed / "run.json").write_text(json.dumps(record))
    assert main(["detector", "apply", str(file), str(renamed)]) == 0


def test_results_without_maps_are_refused(
    judged: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "table"
    shutil.copytree(judged.out, table)
    for path in (table / ".jaxsal" / "scans").glob("*.json"):
        record = json.loads(path.read_text())
        record["files"] = {k: v for k, v in record["files"].items() if "saliency.nii" not in k}
        path.write_text(json.dumps(record))
    out = tmp_path / "detector.json"
    assert main(["detector", "fit", str(table), "--out", str(out)]) == 2
    assert "maps are kept by --output cropped and full" in capsys.readouterr().err
    assert not out.exists()


def test_too_few_lesions_of_a_kind_are_refused(
    judged: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = tmp_path / "few"
    shutil.copytree(judged.out, few)
    for path in sorted((few / ".jaxsal" / "scans").glob("*.json"))[1:]:
        path.unlink()
    out = tmp_path / "detector.json"
    assert main(["detector", "fit", str(few), "--out", str(out)]) == 2
    assert "5 false ones (FP); " in capsys.readouterr().err
    assert not out.exists()


def test_names_in_use_are_refused(
    judged: Any, file: Path, pruned: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["detector", "fit", str(judged.out), "--out", str(file)]) == 2
    assert main(["detector", "apply", str(file), str(judged.out)]) == 2
    assert capsys.readouterr().err.count(" exists: give ") == 2


def test_methods_are_named_where_there_are_others(
    judged: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["detector", "fit", str(judged.out), "--out", str(tmp_path / "d.json")]
    assert main([*arguments, "--method", "vargrad"]) == 2
    assert "has no maps of vargrad (--method); it has those of smoothgrad-max" in (
        capsys.readouterr().err
    )
