"""Candidates for missed lesions against experts' marks, and the uncertainty of TP and FP."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.tiny import MISSED, ROI, TinyScan, load, read_table, save
from scipy import ndimage, stats
from sklearn.metrics import roc_auc_score

import jaxsal.experiments.uncertainty as module
from jaxsal.box import Box
from jaxsal.cli.main import main
from jaxsal.errors import InputError
from jaxsal.experiments.statistics import area_under_roc
from jaxsal.experiments.study import Study
from jaxsal.experiments.uncertainty import UncertaintyExperimentSettings
from jaxsal.experiments.uncertainty_candidates import marks_of
from jaxsal.experiments.uncertainty_maps import channels_compared
from jaxsal.experiments.uncertainty_summary import (
    SUMMARY_COLUMNS,
    alike,
    at,
    beyond_volume,
    separated,
)
from jaxsal.grid import Grid
from jaxsal.inputs.entries import Entry, Scan
from jaxsal.inputs.images import LoadedScan
from jaxsal.lesions import label_lesions
from jaxsal.model import Model
from jaxsal.saliency.maps import Crop
from jaxsal.scan.prediction import Prediction

THRESHOLD = 0.69
MEMBERS = ["--roi", str(ROI[0]), "--members", "2", "--member-noise", "0.2"]


def prediction_of(found: np.ndarray, reference: np.ndarray) -> Prediction:
    grid = Grid(found.shape, np.eye(4))
    image = np.zeros((*found.shape, 1), np.float32)
    loaded = LoadedScan(image, grid, Box.whole(found.shape), reference)
    labels, instances = label_lesions(found, grid, reference, 0)
    return Prediction(loaded, found.astype(np.float32), 0.5, found, labels, instances)


def test_candidates_count_by_what_they_lie_on() -> None:
    found, reference = (np.zeros((12, 4, 4), bool) for _ in range(2))
    candidates = np.zeros(found.shape, np.int32)
    found[0, :2, 0] = reference[0, 1:, 0] = True  # found, label 1
    reference[4, :3, 0] = True  # missed, label 2: one voxel of candidate 1, two of candidate 2
    candidates[4, 0, 0], candidates[4, 1:3, 0] = 1, 2
    reference[8, :, 2] = True  # missed, label 3, and nobody is uncertain
    candidates[0, 3, 0] = 3  # on a lesion that was found
    candidates[10, 3, 3] = 4  # on nothing
    marks = marks_of(candidates, prediction_of(found, reference))
    assert (marks.pairs, marks.candidates, marks.false) == ({2: 2}, 4, 1)


def test_maps_are_compared_where_either_may_be_non_zero() -> None:
    rng = np.random.default_rng(4)
    whole = np.zeros((2, 9, 8, 7, 2), np.float32)
    boxes = [(slice(1, 5), slice(2, 6), slice(0, 4)), (slice(3, 9), slice(1, 5), slice(2, 6))]
    for dense, box in zip(whole, boxes, strict=True):
        dense[box] = rng.normal(size=dense[box].shape)
    crops = [
        Crop(dense[box], tuple(s.start for s in box), 1)
        for dense, box in zip(whole, boxes, strict=True)
    ]
    mark, candidate = (dense[1:9, 1:6, 0:6] for dense in whole)
    for channel, found in enumerate(channels_compared(*crops)):
        expected = stats.pearsonr(mark[..., channel].ravel(), candidate[..., channel].ravel())
        assert found["correlation"] == pytest.approx(expected.statistic, abs=1e-6)
        ratio = candidate[..., channel].max() / mark[..., channel].max()
        assert found["peak_ratio"] == pytest.approx(ratio, rel=1e-6)
    flat = Crop(np.zeros_like(crops[0].values), crops[0].origin, 1)
    assert set(channels_compared(flat, crops[1])[0].values()) == {None}


@pytest.mark.thorough
def test_false_lesions_are_told_by_uncertainty_and_by_size() -> None:
    rng = np.random.default_rng(3)
    rows = [
        {"kind": kind, "subject": f"{n % 7}", "lsu": lsu, "entropy": 0.3, "volume_mm3": volume}
        for n, kind in enumerate(("TP", "FP") * 10)
        for lsu, volume in [(float(rng.random()) + (kind == "FP") / 4, float(rng.integers(6, 90)))]
    ]
    found = {row["measure"]: row for row in separated([*rows, {**rows[0], "kind": "FN"}])}
    false = [row["kind"] == "FP" for row in rows]
    lsu, volume = ([row[key] for row in rows] for key in ("lsu", "volume_mm3"))
    assert found["lsu"]["auc"] == pytest.approx(roc_auc_score(false, lsu))
    assert found["lsu"]["low"] < found["lsu"]["auc"] < found["lsu"]["high"]
    assert found["entropy"]["auc"] == 0.5
    assert found["volume_mm3"]["auc"] == pytest.approx(1 - roc_auc_score(false, volume))
    assert found["volume_mm3"]["median_fp"] == np.median(np.compress(false, volume))
    few = [row for row in rows if row["kind"] == "TP"] + rows[1:8:2]
    assert {row["auc"] for row in separated(few)} == {None}
    assert {row["difference"] for row in beyond_volume(few)} == {None}
    gains = {row["measure"]: row for row in beyond_volume(rows)}
    assert set(gains) == {"lsu", "entropy"}
    for measure, row in gains.items():
        expected = found[measure]["auc"] - found["volume_mm3"]["auc"]
        assert row["difference"] == pytest.approx(expected)
        assert row["low"] < row["difference"] < row["high"]
    as_size = [{**row, "lsu": 1 / row["volume_mm3"]} for row in rows]
    same = next(beyond_volume(as_size))  # resamples are the same for both
    assert (same["difference"], same["low"], same["high"]) == (0, 0, 0)


def _point(patient: int, found: bool, threshold: float = 0.3) -> dict[str, Any]:
    """A scan of two missed lesions: with a candidate on both and two on nothing, or without any."""
    missed = {label: int(found) for label in (1, 2)}
    counts = {"candidates": 4 * found, "false": 2 * found}
    return {"subject": f"{patient}", "threshold": threshold, "missed": missed, **counts}


def test_ends_of_the_froc_curve_resample_patients_with_all_their_lesions() -> None:
    rows = [_point(patient, patient % 2 == 0) for patient in range(8)]
    found = at(0.3, [*rows, _point(0, True, 0.1)])
    assert (found["missed"], found["hit"], found["candidates"]) == (16, 8, 16)
    # of eight patients, one half with all: a binomial distribution of eight draws, not of sixteen
    low, high = stats.binom.ppf([0.025, 0.975], 8, 0.5) / 8
    assert (found["share"], found["low"], found["high"]) == (0.5, low, high)
    ends = found["false_low"], found["false_high"]
    assert (found["false_per_scan"], *ends) == (1, 2 * low, 2 * high)
    few = at(0.3, rows[:5])
    assert (few["share"], few["low"], few["false_high"]) == (0.6, None, None)


def test_ends_of_the_likeness_of_maps_resample_patients() -> None:
    rows = [
        {"subject": f"{n}", "t1_correlation": n / 10, "t1_peak_ratio": ratio}
        for n in range(7)
        for ratio in (1.5, None)
    ]
    alikes = {row["figure"]: row for row in alike(rows, ["t1"])}
    found = alikes["correlation"]
    assert (found["n"], found["patients"], found["median"]) == (14, 7, 0.3)
    # the median of seven draws is below the second of seven values with a chance of 1 %, and is
    # not above it with one of 13 %
    assert (found["low"], found["high"]) == (0.1, 0.5)
    ratio = alikes["peak_ratio"]
    assert (ratio["n"], ratio["median"], ratio["low"], ratio["high"]) == (7, 1.5, 1.5, 1.5)


def test_the_area_under_the_curve_is_scikit_learns() -> None:
    rng = np.random.default_rng(1)
    scores, positive = rng.integers(0, 5, 40), rng.integers(0, 2, 40)
    found = area_under_roc(np.stack([scores, positive], axis=1).astype(float))
    assert found == pytest.approx(roc_auc_score(positive, scores))
    assert np.isnan(area_under_roc(np.array([[0.1, 1.0], [0.2, 1.0]])))


@pytest.mark.parametrize("thresholds", [(), (0.0,), (0.7,), (0.1, 0.3, 0.1)])
def test_thresholds_that_no_entropy_has_are_refused(thresholds: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match=r"thresholds.*0\.693"):
        UncertaintyExperimentSettings(thresholds=thresholds)


@pytest.fixture(scope="module")
def arguments(
    scan: TinyScan, model_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> list[str]:
    """Two scans, of one of which there is a reference: candidates, and what nobody doubts."""
    folder = tmp_path_factory.mktemp("scans")
    images = ["--image", str(scan.flair), str(scan.t1)]
    asked = ["--uncertainty", "noise", *MEMBERS, "--candidates", str(THRESHOLD)]
    found = folder / "found"
    assert main(["predict", str(model_folder), *images, *asked, "--out", str(found)]) == 0
    segmented = load(found / "instances.nii.gz") > 0
    reference = ndimage.binary_dilation(load(found / "candidates.nii.gz") == 1)
    reference = np.where(ndimage.binary_dilation(segmented), 0, reference).astype(np.uint8)
    reference[MISSED] = 1
    path = save(folder / "reference.nii.gz", reference)
    table = folder / "scans.tsv"
    files = f"{scan.flair}\t{scan.t1}"
    table.write_text(f"scan\tflair\tt1\treference\none\t{files}\t{path}\ntwo\t{files}\t\n")
    curve = ["--candidates", str(THRESHOLD), "--thresholds", f"0.2,{THRESHOLD}"]
    maps = ["--samples", "1", "--memory", "1"]
    return ["uncertainty", str(model_folder), str(table), *MEMBERS, *maps, *curve]


@pytest.mark.thorough
def test_the_experiment_counts_compares_and_goes_on(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "study"
    assert main(["experiment", *arguments, "--out", str(out)]) == 0
    content = json.loads((out / "uncertainty.json").read_bytes())
    rows = read_table(out / "uncertainty.tsv")
    kinds = [row["kind"] for row in rows]
    missed = [row for row in rows if row["kind"] == "FN"]
    curve = {row["threshold"]: row for row in content["summary"] if "threshold" in row}
    assert set(curve) == {0.2, THRESHOLD}
    assert curve[THRESHOLD]["missed"] == len(missed) > 0
    hit = [row for row in missed if row["found_up_to"] == str(THRESHOLD)]
    assert curve[THRESHOLD]["hit"] == len(hit) > 0
    for row in hit:
        assert -1 <= float(row["flair_correlation"]) <= 1
        assert float(row["flair_peak_ratio"]) > 0
    assert all(row["flair_correlation"] == "" for row in rows if row not in hit)
    separated = {row["measure"]: row for row in content["summary"] if "auc" in row}
    assert separated["lsu"]["n_fp"] == kinds.count("FP") > 0
    named = set().union(*content["summary"])
    assert named <= set(content["summary_columns"])
    assert any("two" in note and "without a reference" in note for note in content["notes"])
    assert (out / "uncertainty.png").exists()

    derived = out / "scans" / "uncertainty"
    marks, candidates = (
        load(next(derived.glob(f"*acq-{tag}_dseg.nii.gz"))) for tag in ("mark", "candidate")
    )
    assert set(np.unique(marks)) - {0} == {int(row["label"]) for row in hit}
    assert all((marks[candidates == n] > 0).any() for n in np.unique(candidates)[1:])
    touching = ndimage.generate_binary_structure(3, 2)
    for label in np.unique(candidates)[1:]:
        assert ndimage.label(candidates == label, touching)[1] == 1

    def again(*_: Any) -> None:
        raise AssertionError("it was found before")

    before = {name: (out / name).read_bytes() for name in ("uncertainty.tsv", "uncertainty.png")}
    monkeypatch.setattr(module, "uncertainty_of", again)
    assert main(["experiment", *arguments, "--out", str(out)]) == 0
    assert {name: (out / name).read_bytes() for name in before} == before


def lesion_of(kind: str, label: int) -> dict[str, Any]:
    about = {"scan": "a", "subject": "a", "label": label, "kind": kind, "volume_mm3": 9.0}
    return {**about, "lsu": 0.5, "entropy": 0.2, "found_up_to": None}


@pytest.mark.parametrize(
    ("missed", "noted", "drawn"),
    [
        (0, ["no lesion was missed"], "no lesion was missed"),
        (1, ["1 missed lesion: shares need 5", "no candidate lies on"], "1 missed lesion: too few"),
        (5, ["no candidate lies on"], ""),
    ],
)
def test_it_is_said_whether_too_few_lesions_were_missed_or_none(
    missed: int,
    noted: list[str],
    drawn: str,
    tiny_model: Model,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hits = {str(label): False for label in range(missed)}
    counts = {"candidates": 3, "false": 2}
    rows = [{"scan": "a", "subject": "a", "threshold": 0.3, "missed": hits, **counts}]
    rows += [lesion_of("FN", label) for label in range(missed)]
    rows.append(lesion_of("TP", missed))
    monkeypatch.setattr(module, "each_scan", lambda *_: rows)
    entries = [Entry("a", Scan((), reference=tmp_path), {"subject": "a"})]
    study = Study(tiny_model, entries, tmp_path)
    found = module.uncertainty(study, UncertaintyExperimentSettings(thresholds=(0.3,)))
    *told, few = found.notes
    assert "is one patient" in few
    for note, start in zip(told, noted, strict=True):
        assert note.startswith(start)
    assert found.figure is not None
    assert [text.get_text() for text in found.figure.axes[0].texts] == [drawn or "0.3"]


def test_a_cohort_without_references_is_refused(
    scan: TinyScan, model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "scans.tsv"
    table.write_text(f"scan\tflair\tt1\none\t{scan.flair}\t{scan.t1}\n")
    words = ["experiment", "uncertainty", model_folder, table, "--out", tmp_path / "study"]
    assert main([*map(str, words)]) == 2
    assert "no scan has one" in " ".join(capsys.readouterr().err.split())


def test_measures_and_units_are_explained_where_they_are_summed_up() -> None:
    assert "lsu: lesion structural uncertainty" in SUMMARY_COLUMNS["measure"]
    assert "nats: 0 is sure, 0.693 not at all" in SUMMARY_COLUMNS["threshold"]
