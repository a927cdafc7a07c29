"""Peaks and regressions that tell false lesions: rows whose answer is known, and a tiny cohort."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.cohorts import PREDICTION, make_cohort, with_references
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from jaxsal.detector.features import SIZE, feature_columns
from jaxsal.devices import computing_on
from jaxsal.errors import InputError
from jaxsal.experiments.detector import DetectorSettings, detector, judged
from jaxsal.experiments.detector_pruning import pruning
from jaxsal.experiments.detector_summary import (
    SUMMARY_COLUMNS,
    area,
    difference,
    differences,
    summary_of,
)
from jaxsal.experiments.findings import Findings, write_findings
from jaxsal.experiments.study import Study
from jaxsal.model import Model
from jaxsal.saliency.methods.smoothgrad import SmoothGradSettings
from jaxsal.tables import Row

FEATURES = tuple(feature_columns(("flair",)))
SETTINGS = DetectorSettings(folds=4, lost=0.05, spheres=3, sphere_volume=12.0)


def made_up(
    patients: int = 6, each: int = 16, kinds: str = "TP FP FN TN", region: str | None = None
) -> list[Row]:
    """Lesions whose largest value is higher if they are true, and whose smallest is lower."""
    rng = np.random.default_rng(2)
    rows = []
    for index in range(patients * each):
        kind = rng.choice(kinds.split())
        row = dict(zip(FEATURES, rng.standard_normal(len(FEATURES)).tolist(), strict=True))
        row["flair_max"] += 1.5 * (kind == "TP")
        row["flair_min"] -= kind == "FN"
        about = {"scan": "s", "subject": f"p{index % patients}", "label": index, "kind": kind}
        about["region"] = region
        rows.append({**about, "volume_mm3": float(np.exp(row[SIZE])), **row})
    return rows


@pytest.mark.parametrize(
    ("pair", "measure", "sign"),
    [(("TP", "FP"), "flair_max", 1), (("FN", "TN"), "flair_min", -1), (("TP", "FP"), SIZE, 1)],
)
def test_areas_are_scikit_learn_s(pair: tuple[str, str], measure: str, sign: int) -> None:
    rows = made_up()
    found = area(rows, pair, measure)
    own = [row for row in rows if row["kind"] in pair]
    expected = roc_auc_score(
        [row["kind"] == pair[0] for row in own], [sign * row[measure] for row in own]
    )
    assert found["auc"] == pytest.approx(expected)
    assert found["low"] < found["auc"] < found["high"]
    assert (found["n_first"] + found["n_second"], found["patients"]) == (len(own), 6)


def test_a_difference_of_areas_is_of_the_same_lesions_and_the_same_resamples() -> None:
    rows = made_up(each=24)
    for row in rows:
        row["t1_max"] = row["volume_mm3"] ** 2  # tells what the volume tells
    pair = ("TP", "FP")
    same = difference(rows, pair, "t1_max", "volume_mm3")
    assert (same["difference"], same["low"], same["high"]) == (0, 0, 0)
    found = difference(rows, pair, "flair_max", "volume_mm3")
    one, other = (area(rows, pair, name)["auc"] for name in ("flair_max", "volume_mm3"))
    assert found["difference"] == pytest.approx(one - other)
    assert found["low"] < found["difference"] < found["high"]
    some = [{**row, "flair_max": None} if row["label"] % 3 else row for row in rows]
    found = difference(some, pair, "flair_max", "volume_mm3")
    there = [row for row in rows if not row["label"] % 3]
    one, other = (area(there, pair, name)["auc"] for name in ("flair_max", "volume_mm3"))
    assert found["difference"] == pytest.approx(one - other)
    assert found["n_first"] == area(there, pair, "flair_max")["n_first"]


def test_maps_are_compared_with_the_volume_and_regions_with_all() -> None:
    rows = judged(made_up(region="front"), ("flair",), SETTINGS)
    found = [(row["measure"], row["than"]) for row in differences(rows, ("flair",))]
    peaks = [("flair_max", "volume_mm3"), ("flair_min", "volume_mm3")]
    models = [("p_true", than) for than in ("volume_mm3", "p_true_volume")]
    models.append(("p_true_region", "p_true"))
    assert found == peaks + models
    without = judged(made_up(1), ("flair",), SETTINGS)  # one patient
    assert [(row["measure"], row["than"]) for row in differences(without, ("flair",))] == peaks


def test_lesions_are_judged_by_other_patients_as_in_scikit_learn() -> None:
    rows = judged(made_up(), ("flair",), SETTINGS)
    own = [row for row in rows if row["kind"] in ("TP", "FP")]
    true = [row["kind"] == "TP" for row in own]
    groups = [row["subject"] for row in own]
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(max_iter=10_000))
    for column, features in (("p_true", FEATURES), ("p_true_volume", (SIZE,))):
        expected = cross_val_predict(
            pipeline,
            np.array([[row[name] for name in features] for row in own]),
            true,
            groups=groups,
            cv=GroupKFold(4),
            method="predict_proba",
        )[:, 1]
        np.testing.assert_allclose([row[column] for row in own], expected, rtol=1e-9)
    assert {row["p_true"] for row in rows if row["kind"] in ("FN", "TN")} == {None}


def test_each_region_has_a_regression_of_its_own_lesions() -> None:
    front, back = made_up(region="front"), made_up(each=20, region="back")
    few, nowhere = made_up(each=1, region="stem"), made_up(each=2)
    rows = judged([*front, *back, *few, *nowhere], ("flair",), SETTINGS)
    found = {(row["region"], row["label"]): row["p_true_region"] for row in rows}
    for alone in (front, back):
        for row in judged(alone, ("flair",), SETTINGS):
            assert found[row["region"], row["label"]] == row["p_true"]
    assert {row["p_true_region"] for row in rows if row["region"] in ("stem", None)} == {None}
    summary = {row["measure"]: row for row in summary_of(rows, ("flair",)) if "auc" in row}
    beside, by_region = summary["p_true_where_regions"], summary["p_true_region"]
    assert beside["n_first"] == by_region["n_first"] < summary["p_true"]["n_first"]
    assert by_region["auc"] != beside["auc"]


def test_pruning_in_numbers_worked_by_hand() -> None:
    """10 TP of which 1 is pruned, 5 FP of which 3 are, 5 FN, one of a patient with FN alone."""
    rows: list[Row] = []
    for kind, number, pruned in (("TP", 10, 1), ("FP", 5, 3), ("FN", 4, 0)):
        for index in range(number):
            held_out = kind != "FN"
            rows.append(
                {
                    "subject": "a",
                    "kind": kind,
                    "fold": 0 if held_out else None,
                    "kept": int(index >= pruned) if held_out else None,
                    "kept_volume": int(index != 0) if held_out else None,  # one TP, one FP
                }
            )
    for subject, kind in (("b", "FN"), ("c", "TP"), ("c", "FN")):  # no regression judges the last
        nothing = dict.fromkeys(("fold", "kept", "kept_volume"))
        rows.append({"subject": subject, "kind": kind, **nothing})
    found = {(row["pruned"], row["by"], row.get("than")): row for row in pruning(rows)}
    for name, before, after, by_volume in (
        ("f1", 20 / 30, 18 / 26, 18 / 28),
        ("ppv", 10 / 15, 9 / 11, 9 / 13),
        ("tpr", 10 / 15, 9 / 15, 9 / 15),
    ):
        row = found[name, "p_true_volume", None]
        assert (row["before"], row["after"]) == (pytest.approx(before), pytest.approx(by_volume))
        assert (row["tp_lost"], row["fp_removed"]) == (1, 1)
        row = found[name, "p_true", "p_true_volume"]
        assert row["difference"] == pytest.approx(after - by_volume)
        assert (row["n_tp"], row["n_fp"], row["n_fn"], row["low"]) == (10, 5, 5, None)
        row = found[name, "p_true", None]
        assert (row["before"], row["after"]) == (pytest.approx(before), pytest.approx(after))
        assert row["change"] == pytest.approx(after - before)
        assert (row["n_fn"], row["tp_lost"], row["fp_removed"]) == (5, 1, 3)
        assert (row["patients"], row["low"]) == (2, None)


def test_two_prunings_are_compared_in_the_same_resamples() -> None:
    rows = judged(made_up(each=24), ("flair",), SETTINGS)
    found = [row for row in pruning(rows) if "than" in row]
    assert [row["pruned"] for row in found] == ["f1", "ppv", "tpr"]
    assert all(row["low"] <= row["difference"] <= row["high"] for row in found)
    alike = [{**row, "kept_volume": row["kept"]} for row in rows]
    found = [row for row in pruning(alike) if "than" in row]
    assert {(row["difference"], row["low"], row["high"]) for row in found} == {(0, 0, 0)}


@pytest.mark.parametrize(("patients", "kinds"), [(1, "TP FP"), (6, "TP FN"), (6, "FP TN")])
def test_without_patients_or_kinds_to_compare_nothing_is_fitted(patients: int, kinds: str) -> None:
    rows = judged(made_up(patients, 32, kinds), ("flair",), SETTINGS)
    assert {row["fold"] for row in rows} == {None}
    summary = summary_of(rows, ("flair",))
    assert not [row for row in summary if "pruned" in row]
    assert all(row["low"] is None for row in summary)
    expected = {"TP"} if patients == 1 else set()
    assert {row["first"] for row in summary if row.get("auc") is not None} == expected


@pytest.fixture(scope="module")
def study(tiny_model: Model, one_device: None, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("detector")
    saliency = SmoothGradSettings(samples=1, memory=2**30)
    with computing_on(None):
        entries = with_references(tiny_model, make_cohort(folder), folder)
        yield Study(tiny_model, entries, folder / "out", PREDICTION, saliency)


@pytest.fixture(scope="module")
def found(study: Study) -> Findings:
    return detector(study, SETTINGS)


def test_a_cohort_is_asked(found: Findings, tmp_path: Path) -> None:
    assert Counter(row["kind"] for row in found.rows) == {"TP": 6, "FP": 7, "FN": 4, "TN": 12}
    assert {row["fold"] for row in found.rows if row["kind"] in ("TP", "FP")} == {0, 1, 2, 3}
    for row in found.rows:
        assert set(row) == set(found.columns)
    assert set().union(*found.summary) == set(SUMMARY_COLUMNS)
    areas = {(row["first"], row["measure"]): row for row in found.summary if "auc" in row}
    assert areas["TP", "p_true"]["n_second"] == 7
    assert areas["FN", "flair_max"]["auc"] is None  # four
    assert any("4 FN and 12 TN: a comparison needs 5" in note for note in found.notes)
    assert any("there are 4 patients: intervals" in note for note in found.notes)
    assert any("the volume tells FN from TN by construction" in note for note in found.notes)
    assert any("exceeds volume_mm3, which needs no fit" in note for note in found.notes)
    assert ("p_true", "volume_mm3") in {
        (r["measure"], r["than"]) for r in found.summary if "difference" in r and "measure" in r
    }
    assert len(write_findings(found, tmp_path, "detector", {}, dpi=20)) == 3


def test_a_second_call_computes_nothing(
    study: Study, found: Findings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jaxsal.cohort.job.maps_of", None)
    monkeypatch.setattr("jaxsal.cohort.job.find_uncertain_lesions", None)
    again = detector(dataclasses.replace(study, notes=[]), SETTINGS)
    assert list(again.rows) == list(found.rows)


def test_without_references_or_lesions_it_is_said(study: Study, tmp_path: Path) -> None:
    blank = [
        dataclasses.replace(e, scan=dataclasses.replace(e.scan, reference=None))
        for e in study.entries
    ]
    with pytest.raises(InputError, match="no scan has one"):
        detector(dataclasses.replace(study, entries=blank), SETTINGS)
    some = dataclasses.replace(study.saliency, voxels_per_lesion=2)
    own = {"entries": study.entries[:1], "out": tmp_path, "saliency": some, "notes": []}
    one = dataclasses.replace(study, **own)
    findings = detector(one, dataclasses.replace(SETTINGS, spheres=0))
    assert any("one patient has all TP and FP" in note for note in findings.notes)
    assert any("of 2 voxels of each" in n and "depend on size" in n for n in findings.notes)
    assert all(row.get("auc", row.get("difference")) is None for row in findings.summary)
