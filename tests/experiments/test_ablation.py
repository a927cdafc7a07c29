"""Dependence of peaks on volume: laws of powers in closed form, and a tiny cohort end to end."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.cohorts import PREDICTION, make_cohort
from scipy import stats

from jaxsal.devices import computing_on
from jaxsal.experiments.ablation import (
    COLUMNS,
    SUMMARY_COLUMNS,
    ablation,
    comparison,
    dependence,
    in_thirds,
    slope,
    summary_of,
)
from jaxsal.experiments.catalogue import NoSettings
from jaxsal.experiments.findings import Findings, write_findings
from jaxsal.experiments.study import Study
from jaxsal.model import Model
from jaxsal.saliency.methods.smoothgrad import SmoothGradSettings
from jaxsal.tables import Row

POWERS = {"max": 0.0, "mean": -0.5, "sum": 0.5}


def rows_of_powers(patients: int = 6, lesions: int = 8, noise: float = 0.0) -> list[Row]:
    """Lesions whose peak is volume to a power, by aggregate; the mean's and the sum's are alike."""
    rng = np.random.default_rng(1)
    volumes = np.sort(rng.uniform(5, 500, patients * lesions))
    errors = np.exp(noise * rng.standard_normal(len(volumes)))
    owners = np.tile(np.arange(patients), lesions)  # every third has all patients
    thirds = np.repeat(["small", "middle", "large"], len(volumes) // 3)
    return [
        {
            "scan": str(owner),
            "subject": str(owner),
            "label": label,
            "kind": "predicted",
            "volume_mm3": volume,
            "third": str(third),
            "channel": "flair",
            "aggregate": aggregate,
            "peak": 3 * volume**power * error,
        }
        for label, (owner, volume, third, error) in enumerate(
            zip(owners, volumes, thirds, errors, strict=True)
        )
        for aggregate, power in POWERS.items()
    ]


@pytest.mark.parametrize("aggregate", ["mean", "sum"])
@pytest.mark.parametrize("size", ["all", "large", "small"])
def test_the_slope_of_a_law_of_powers_is_its_power(aggregate: str, size: str) -> None:
    rows = rows_of_powers()
    found = dependence(rows, aggregate, "flair", "slope", size)
    assert (found["n"], found["patients"]) == ((48, 6) if size == "all" else (16, 6))
    for end in ("value", "low", "high"):
        assert found[end] == pytest.approx(POWERS[aggregate])
        rho = dependence(rows, aggregate, "flair", "rho", size)[end]
        assert rho == pytest.approx(np.sign(POWERS[aggregate]))


def test_figures_are_scipy_s_and_lie_within_their_intervals() -> None:
    rows = rows_of_powers(noise=0.5)
    own = [row for row in rows if row["aggregate"] == "max"]
    volumes, peaks = (np.array([row[key] for row in own]) for key in ("volume_mm3", "peak"))
    expected = {
        "rho": stats.spearmanr(volumes, peaks).statistic,
        "slope": stats.linregress(np.log(volumes), np.log(peaks)).slope,
    }
    for figure, value in expected.items():
        found = dependence(rows, "max", "flair", figure)
        assert found["value"] == pytest.approx(value)
        assert found["low"] < found["value"] < found["high"]


def test_aggregates_are_compared_by_lesion() -> None:
    rows = rows_of_powers(noise=0.5)  # which the two share, so that their difference has none
    found = comparison(rows, "mean", "flair")
    for end in ("slope_difference", "low", "high"):
        assert found[end] == pytest.approx(-0.5)
    assert found["p"] < 1e-6
    adjusted = [row["p_holm"] for row in summary_of(rows, ["flair"]) if "first" in row]
    assert adjusted == [pytest.approx(2 * found["p"], abs=1e-30)] * 2


def test_true_lesions_are_summed_up_alone_beside_false_ones() -> None:
    """False lesions are small here and have high peaks, which makes a slope that TP do not have."""
    true = [{**row, "kind": "TP"} for row in rows_of_powers()]
    false = [
        {
            **row,
            "kind": "FP",
            "label": 1000 + row["label"],
            "volume_mm3": row["volume_mm3"] / 1000,
            "peak": 10 * row["peak"],
        }
        for row in true
    ]
    summary = summary_of(in_thirds([*true, *false]), ["flair"])
    slopes = {
        (row["kinds"], row["lesions"]): row
        for row in summary
        if (row.get("figure"), row.get("aggregate")) == ("slope", "max")
    }
    assert slopes["all", "all"]["value"] < -0.2
    assert slopes["TP", "all"]["value"] == pytest.approx(0)
    assert {slopes["TP", third]["n"] for third in ("small", "middle", "large")} == {16}
    assert slopes["all", "small"]["n"] == 32
    compared = [row for row in summary if "first" in row]
    assert [row["kinds"] for row in compared] == ["all", "all", "TP", "TP"]
    assert max(row["p_holm"] for row in compared) <= 1


@pytest.mark.parametrize("kind", ["TP", "predicted"])
def test_lesions_of_one_kind_are_summed_up_once(kind: str) -> None:
    rows = [{**row, "kind": kind} for row in rows_of_powers()]
    assert {row["kinds"] for row in summary_of(rows, ["flair"])} == {"all"}


def test_peaks_of_zero_are_in_no_slope() -> None:
    assert slope(np.array([[1.0, 2], [2, 4], [4, 8], [8, 0]])) == pytest.approx(1)
    assert np.isnan(slope(np.array([[2.0, 3], [2, 4]])))
    assert np.isnan(slope(np.array([[2.0, 0]])))


def test_volumes_that_differ_by_rounding_have_no_slope() -> None:
    volumes = 64 * (1 + np.finfo(float).eps * np.arange(9))
    assert np.isnan(slope(np.stack([volumes, np.arange(1.0, 10)], -1)))


def test_a_few_patients_get_no_interval_and_a_few_lesions_no_figure() -> None:
    rows = rows_of_powers(patients=2, lesions=6)
    found = dependence(rows, "sum", "flair", "slope")
    assert (found["value"], found["low"]) == (pytest.approx(0.5), None)
    few = dependence(rows, "sum", "flair", "rho", "large")
    assert (few["n"], few["value"]) == (4, None)


@pytest.fixture(scope="module")
def study(tiny_model: Model, one_device: None, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("ablation")
    saliency = SmoothGradSettings(samples=1, memory=2**30)
    with computing_on(None):
        yield Study(tiny_model, make_cohort(folder, 2), folder / "out", PREDICTION, saliency)


@pytest.fixture(scope="module")
def found(study: Study) -> Findings:
    return ablation(study, NoSettings())


def test_peaks_are_those_of_the_maps_files(study: Study, found: Findings, tmp_path: Path) -> None:
    """The sum's of a run of its own, with which the mean's times |Ω| agrees up to rounding."""
    sums = dataclasses.replace(study.saliency, aggregate="sum")
    runs = {"max": study.lesions(), "sum": study.run("lesions-sum", study.entries, sums)}
    for aggregate, results in runs.items():
        peaks = {}
        for scan in results.scans():
            for row in scan.rows:
                crop = scan.map(row["label"], results.methods[f"smoothgrad-{aggregate}"])
                for channel, values in zip(("flair", "t1"), crop.values.T, strict=True):
                    peaks[scan.id, row["label"], channel] = np.abs(values).max()
        own = [row for row in found.rows if row["aggregate"] == aggregate]
        assert {(r["scan"], r["label"], r["channel"]) for r in own} == set(peaks)
        for row in own:
            expected = peaks[row["scan"], row["label"], row["channel"]]
            assert row["peak"] == pytest.approx(expected, rel=1e-5)
    assert found.figure is not None
    assert set().union(*found.rows) == set(COLUMNS)
    assert set().union(*found.summary) == set(SUMMARY_COLUMNS)
    assert any("there are 2 patients: intervals" in note for note in found.notes)
    assert len(write_findings(found, tmp_path, "ablation", {}, dpi=20)) == 3


def test_a_second_call_computes_nothing(
    study: Study, found: Findings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jaxsal.cohort.job.maps_of", None)
    monkeypatch.setattr("jaxsal.cohort.job.find_uncertain_lesions", None)
    again = ablation(dataclasses.replace(study, notes=[]), NoSettings())
    assert list(again.rows) == list(found.rows)


def test_no_lesion_is_said(study: Study, tmp_path: Path) -> None:
    blind = dataclasses.replace(PREDICTION, threshold=0.999999)
    own = dataclasses.replace(study, out=tmp_path, prediction=blind, notes=[])
    findings = ablation(own, NoSettings())
    assert (findings.rows, findings.figure) == ([], None)
    assert any("no lesion was found" in note for note in findings.notes)
