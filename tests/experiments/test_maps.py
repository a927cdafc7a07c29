"""Experiments on maps, end to end on a tiny cohort: their tables against the files they read."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from helpers.cohorts import PREDICTION, make_cohort
from helpers.tiny import CHANNELS, MISSED, ROI, SHAPE, load, oblique_affine, read_table, save
from matplotlib.figure import Figure
from scipy import ndimage, stats

from jaxsal.cli.experiment import show_findings
from jaxsal.cli.main import main
from jaxsal.cohort.results import ScanResults
from jaxsal.devices import computing_on
from jaxsal.errors import InputError
from jaxsal.experiments.aggregation import dependence
from jaxsal.experiments.catalogue import experiment
from jaxsal.experiments.contributions import ContributionsSettings
from jaxsal.experiments.contributions_figure import title_of
from jaxsal.experiments.contributions_tally import Tally
from jaxsal.experiments.findings import Findings, write_findings
from jaxsal.experiments.regions import sphere
from jaxsal.experiments.study import Study
from jaxsal.experiments.true_negatives import SphereSettings
from jaxsal.grid import Grid
from jaxsal.inputs.entries import Entry, Scan
from jaxsal.model import Model
from jaxsal.saliency.methods.smoothgrad import SmoothGradSettings

GROUPS = SphereSettings(spheres=3, sphere_volume=12.0)
BLIND = dataclasses.replace(PREDICTION, threshold=0.999999)  # nothing is a lesion
CONTRIBUTIONS = ContributionsSettings(least_value=0.02)
OWN = {"groups": GROUPS, "contributions": CONTRIBUTIONS}
Row = dict[str, Any]


@pytest.fixture(autouse=True, scope="module")
def _on_the_default_device(one_device: None) -> Any:
    with computing_on(None):
        yield


def ask(name: str, study: Study) -> Findings:
    asked = experiment(name)
    return asked.ask(study, OWN.get(name) or asked.settings())


def study_of(model: Model, entries: list[Entry], out: Path, **changes: Any) -> Study:
    saliency = SmoothGradSettings(samples=1, memory=2**30)
    return dataclasses.replace(Study(model, entries, out, PREDICTION, saliency), **changes)


@pytest.fixture(scope="module")
def entries(tiny_model: Model, tmp_path_factory: pytest.TempPathFactory) -> list[Entry]:
    """Two scans with references: one spot that is found, and one that is not."""
    folder = tmp_path_factory.mktemp("cohort")
    truth = np.zeros(SHAPE, np.uint8)
    truth[7:10, 9:12, 8:11] = 1
    truth[MISSED] = 1
    reference = save(folder / "truth.nii.gz", truth)
    return [
        dataclasses.replace(entry, scan=Scan(entry.scan.images, reference))
        for entry in make_cohort(folder, 2)
    ]


@pytest.fixture(scope="module")
def study(
    tiny_model: Model, entries: list[Entry], tmp_path_factory: pytest.TempPathFactory
) -> Study:
    return study_of(tiny_model, entries, tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def found(study: Study) -> dict[str, Findings]:
    return {name: ask(name, study) for name in ("contributions", "groups", "aggregation", "levels")}


@pytest.fixture(scope="module")
def lesions(study: Study, found: dict[str, Findings]) -> list[Row]:
    """Every lesion with its domain and its map on the image's grid, read from the files."""
    results = study.lesions()
    told = []
    for scan in results.scans():
        for row in scan.rows:
            crop = scan.map(row["label"], results.methods["smoothgrad-max"])
            dense = crop.box.place(crop.values, SHAPE).astype(float)
            told.append({**row, "domain": scan.labels == row["label"], "map": dense})
    assert {"FN", "FP"} <= {lesion["kind"] for lesion in told}
    return told


def test_files_of_all_experiments(found: dict[str, Findings], tmp_path: Path) -> None:
    for name, findings in found.items():
        assert set().union(*findings.rows) <= set(findings.columns)
        paths = write_findings(findings, tmp_path, name, {}, dpi=20)  # drawing takes longest
        assert [path.name for path in paths] == [f"{name}.{end}" for end in ("tsv", "json", "png")]
        assert findings.figure is not None
        assert findings.figure.get_facecolor() == (1, 1, 1, 1)
        assert set().union(*findings.summary) == set(findings.summary_columns)
        assert all("n" in row or "lesions" in row or "n_first" in row for row in findings.summary)


def test_figures_of_approximated_maps_say_so(
    study: Study, found: dict[str, Findings], tmp_path: Path
) -> None:
    assert found
    assert study.counted["all"] > 0
    assert study.footnote == ""
    few = dataclasses.replace(study.saliency, voxels_per_lesion=8)
    other = dataclasses.replace(study, saliency=few, counted=Counter(all=5, approximated=2))
    figure = Figure(layout="constrained")
    write_findings(Findings({}, [], [], figure), tmp_path, "groups", {}, other.footnote, dpi=20)
    text = "approximated: 2 of 5 maps, 8 voxels of each differentiated"
    assert figure.get_supxlabel() == text
    fixed = Figure()
    write_findings(Findings({}, [], [], fixed), tmp_path, "sanity", {}, other.footnote, dpi=20)
    assert [written.get_text() for written in fixed.texts] == [text]


def test_summaries_of_contributions_fit_a_terminal(
    found: dict[str, Findings], capsys: pytest.CaptureFixture[str]
) -> None:
    show_findings(Findings({}, [], found["contributions"].summary, None))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > len(found["contributions"].summary)
    assert max(len(line.rstrip()) for line in lines) <= 100


def test_medians_of_contributions(found: dict[str, Findings], lesions: list[Row]) -> None:
    whole = [row for row in found["contributions"].rows if "median" in row]
    assert len(whole) == 2 * 2 * len({lesion["kind"] for lesion in lesions})
    for row in whole:
        own = [lesion for lesion in lesions if lesion["kind"] == row["kind"]]
        maps = [lesion["map"][..., CHANNELS.index(row["channel"])] for lesion in own]
        signed = [m[m >= 0.02] if row["sign"] == "positive" else m[m <= -0.02] for m in maps]
        pooled = np.concatenate(signed)
        assert (row["lesions"], row["voxels"]) == (len(own), len(pooled))
        assert row["median"] == pytest.approx(np.median(pooled), rel=1e-3)
        interval = stats.quantile_test(pooled).confidence_interval()
        assert (row["low"], row["high"]) == pytest.approx(tuple(interval), rel=1e-3)
        each = [np.median(values) for values in signed if len(values)]
        assert row["lesion_median"] == pytest.approx(np.median(each), rel=1e-5)
        assert (row["subjects"], row["subjects_low"]) == (len({r["subject"] for r in own}), None)


def test_scans_of_a_subject_are_no_sample(study: Study, found: dict[str, Findings]) -> None:
    results = study.lesions()
    tally = Tally(0.02)
    for scan in results.scans():
        rows = [{**row, "subject": "same"} for row in scan.rows]
        record = dataclasses.replace(scan.record, rows=rows)
        tally.add_scan(dataclasses.replace(scan, record=record), results.methods["smoothgrad-max"])
    signed = tally.signed["FP", "flair", "positive"]
    assert list(signed.subjects) == ["same"]
    assert signed.subjects["same"][1].sum() == signed.magnitudes.count


def test_titles_count_what_is_shown(found: dict[str, Findings]) -> None:
    tally = Tally(0.02)
    tally.lesions.update(TP=1, FP=1200)
    tally.scans.update(TP=1, FP=7)
    for kind, title in (("TP", "1 TP lesion of 1 scan"), ("FP", "1,200 FP lesions of 7 scans")):
        assert title_of(tally, kind) == f"Contributions to {title}"
    assert found["aggregation"].figure is not None
    number = len(found["aggregation"].rows) // 4
    assert found["aggregation"].figure.get_suptitle().endswith(f", {number} lesions")


def test_contributions_by_distance(found: dict[str, Findings], lesions: list[Row]) -> None:
    spacing = tuple(np.linalg.norm(oblique_affine()[:3, :3], axis=0))
    own = [lesion for lesion in lesions if lesion["kind"] == "FP"]
    for low, high in ((0, 1), (2, 3), (5, 6)):
        parts = []
        for lesion in own:
            away = ndimage.distance_transform_edt(~lesion["domain"], sampling=spacing)
            parts.append(lesion["map"][(away > low + 1e-5) & (away <= high + 1e-5), 1])
        values = np.concatenate(parts)
        rows = {
            row["sign"]: row
            for row in found["contributions"].rows
            if (row["kind"], row["channel"], row.get("from_mm")) == ("FP", "t1", low)
        }
        assert rows["positive"]["to_mm"] == high
        assert rows["positive"]["amount"] == pytest.approx(values[values > 0].sum() / len(own))
        assert rows["negative"]["amount"] == pytest.approx(values[values < 0].sum() / len(own))
        share = values[values > 0].sum() / np.abs(values).sum()
        assert rows["positive"]["share"] == pytest.approx(share)
        assert rows["negative"]["voxels"] == (values <= -0.02).sum()


def test_true_negatives_lie_inside_the_head_and_off_lesions(
    study: Study, found: dict[str, Findings], entries: list[Entry]
) -> None:
    spheres = {path.name: load(path) for path in (study.out / "scans/true-negatives").iterdir()}
    assert len(spheres) == len(entries)
    touching = ndimage.generate_binary_structure(3, 2)
    for scan, entry in zip(study.lesions().scans(), entries, strict=True):
        labels = spheres[f"{entry.stem}_dseg.nii.gz"]
        size = len(sphere((0, 0, 0), GROUPS.sphere_volume, Grid(SHAPE, oblique_affine())))
        np.testing.assert_array_equal(np.bincount(labels.ravel())[1:], size)
        around = ndimage.binary_dilation(labels > 0, touching)
        assert entry.scan.reference is not None
        lesion = (scan.probability >= study.threshold) | (load(entry.scan.reference) > 0)
        assert not (around & lesion).any()
        assert (load(entry.scan.images[0])[labels > 0] != 0).all()
    assert len({labels.tobytes() for labels in spheres.values()}) == 2  # each scan its own


def test_peaks_by_kind(found: dict[str, Findings], lesions: list[Row]) -> None:
    rows = found["groups"].rows
    spheres = [row for row in rows if row["kind"] == "TN"]
    assert {row["scan"] for row in spheres} == {lesion["scan"] for lesion in lesions}
    for lesion, row in zip(lesions, rows, strict=False):
        assert (row["scan"], row["label"], row["kind"]) == (
            *(lesion["scan"], lesion["label"], lesion["kind"]),
        )
        assert row["flair_max"] == pytest.approx(lesion["map"][..., 0].max())
        assert row["t1_min"] == pytest.approx(lesion["map"][..., 1].min())
    assert len(rows) == len(lesions) + len(spheres)


def test_pairs_of_kinds_are_tested_if_there_are_enough(found: dict[str, Findings]) -> None:
    findings = found["groups"]
    sizes = {kind: sum(r["kind"] == kind for r in findings.rows) for kind in ("TN", "FN", "FP")}
    tests = [row for row in findings.summary if "first" in row]
    adjusted = []
    for row in tests:
        first, second = (
            [r[f"{row['channel']}_{row['extreme']}"] for r in findings.rows if r["kind"] == kind]
            for kind in (row["first"], row["second"])
        )
        assert (row["n_first"], row["n_second"]) == (len(first), len(second))
        assert min(len(first), len(second)) >= 5  # others are in a note
        assert row["p"] == pytest.approx(stats.mannwhitneyu(first, second).pvalue)
        assert row["p"] <= row["p_holm"] <= 1
        adjusted.append(row["p_holm"])
    assert sizes["FN"] < 5 <= sizes["TN"]  # both cases are met
    assert adjusted
    assert any("too few to be tested" in note and "FN (2)" in note for note in findings.notes)


def test_both_aggregates_of_all_lesions(
    study: Study, found: dict[str, Findings], lesions: list[Row]
) -> None:
    findings = found["aggregation"]
    assert len(findings.rows) == 2 * 2 * len(lesions)
    for aggregate in ("max", "mean"):
        own = [r for r in findings.rows if (r["aggregate"], r["channel"]) == (aggregate, "flair")]
        summary = next(
            row
            for row in findings.summary
            if (row["aggregate"], row["channel"], row["extreme"]) == (aggregate, "flair", "max")
        )
        expected = stats.spearmanr(
            [r["volume_mm3"] for r in own], np.abs([r["max"] for r in own])
        ).statistic
        assert summary["spearman_with_volume"] == pytest.approx(expected)
        assert summary["n"] == len(lesions)
    by_lesion = {
        (r["scan"], r["label"], r["aggregate"]): r["max"]
        for r in findings.rows
        if r["channel"] == "flair"
    }
    for lesion in lesions:
        one, other = (by_lesion[lesion["scan"], lesion["label"], a] for a in ("max", "mean"))
        assert one == pytest.approx(lesion["map"][..., 0].max())
        assert 0 < other < one


def test_no_correlation_and_no_ratio_are_told_as_zero() -> None:
    def told(volumes: list[float], peaks: list[float]) -> Row:
        own = {"aggregate": "max", "channel": "t1"}
        rows = [
            {**own, "volume_mm3": volume, "max": peak}
            for volume, peak in zip(volumes, peaks, strict=True)
        ]
        return dependence(rows, "max", "t1", "max")

    uncorrelated = told([1, 2, 3, 4, 5], [1, 5, 4, 3, 2])
    found = stats.spearmanr([1, 2, 3, 4, 5], [1, 5, 4, 3, 2])
    assert (uncorrelated["spearman_with_volume"], uncorrelated["p"]) == (0, found.pvalue)
    assert told(list(range(15)), [1.0] * 5 + [2.0] * 5 + [0.0] * 5)["large_to_small"] == 0
    assert told([1, 2, 3, 4, 5], [1, 1, 1, 1, 1])["p"] is None


def test_neighbours_in_both_kinds_of_maps(
    study: Study, found: dict[str, Findings], lesions: list[Row]
) -> None:
    rows = found["levels"].rows
    named = {(lesion["scan"], lesion["label"]): lesion for lesion in lesions}
    assert len(rows) == 2 * sum(lesion["kind"] != "FN" for lesion in lesions)
    scan_maps = {}
    for entry in study.entries:
        pattern = f"{entry.stem}_label-lesion0001_desc-flairSmoothgradSum_saliency.nii.gz"
        image = nib.load(next((study.out / "runs/class-level").rglob(pattern)))
        dense = np.zeros(SHAPE)
        origin = nib.affines.apply_affine(np.linalg.inv(oblique_affine()), image.affine[:3, 3])
        first = np.rint(origin).astype(int)
        part = tuple(slice(a, a + n) for a, n in zip(first, image.shape, strict=True))
        dense[part] = image.get_fdata()
        scan_maps[entry.id] = dense
    for row in rows[::2]:
        own = named[row["scan"], row["label"]]
        other = named[row["scan"], row["neighbour"]]
        mine, theirs = (np.abs(own["map"][lesion["domain"], 0]).max() for lesion in (own, other))
        assert row["instance_ratio"] == pytest.approx(theirs / mine)
        whole = np.abs(scan_maps[row["scan"]])
        assert row["class_own"] == pytest.approx(whole[own["domain"]].max(), rel=1e-5)
        assert row["class_neighbour"] == pytest.approx(whole[other["domain"]].max(), rel=1e-5)
    summary = found["levels"].summary
    instance, whole = (
        next(r["median_ratio"] for r in summary if (r["channel"], r["map"]) == ("flair", level))
        for level in ("instance", "class")
    )
    assert instance < whole


def test_class_level_is_the_gradient_of_the_sum_of_segmented_logits(
    study: Study, found: dict[str, Findings]
) -> None:
    for scan in study.lesions().scans():
        path = next((study.out / "scans/class-level").glob(f"{scan.record.stem}_dseg*"))
        np.testing.assert_array_equal(load(path), scan.probability >= study.threshold)


@pytest.mark.parametrize(
    ("name", "place"), [("groups", "true-negatives"), ("levels", "class-level")]
)
def test_scans_without_spheres_or_class_level_map_are_left_out(
    name: str,
    place: str,
    study: Study,
    found: dict[str, Findings],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def gone(scan: ScanResults) -> np.ndarray:
        raise InputError(f"{scan.id} has no probabilities any more")

    monkeypatch.setattr(ScanResults, "probability", property(gone))
    monkeypatch.setattr(f"jaxsal.experiments.{name}.draw", lambda *_: None)  # slow
    again = dataclasses.replace(study, notes=[], left_out=set())
    ask(name, again)
    assert again.left_out == {entry.id for entry in study.entries}
    for scan in again.left_out:
        told = f"{place}: {scan} is left out: {scan} has no probabilities any more"
        assert told in again.notes
    assert not any("no lesion was found in any scan" in note for note in again.notes)


def test_a_second_call_computes_nothing(
    study: Study, found: dict[str, Findings], monkeypatch: pytest.MonkeyPatch
) -> None:
    def computed(*_: object) -> None:
        raise AssertionError("computed again")

    monkeypatch.setattr("jaxsal.cohort.job.find_uncertain_lesions", computed)
    monkeypatch.setattr("jaxsal.cohort.job.maps_of", computed)
    for name, before in found.items():
        monkeypatch.setattr(f"jaxsal.experiments.{name}.draw", lambda *_: None)  # slow
        again = ask(name, study)
        assert list(again.rows) == list(before.rows)
        assert list(again.summary) == list(before.summary)


def test_the_command_tells_the_same(
    study: Study,
    found: dict[str, Findings],
    model_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines = ["scan\tsubject\tflair\tt1\treference"]
    for entry in study.entries:
        files = (*entry.scan.images, entry.scan.reference)
        lines.append("\t".join([entry.id, entry.entities["subject"], *map(str, files)]))
    cohort = tmp_path / "scans.tsv"
    cohort.write_text("\n".join(lines), encoding="utf-8")
    options = ["--roi", str(ROI[0]), "--samples", "1", "--memory", "1", "--out"]
    monkeypatch.setattr("jaxsal.experiments.contributions.draw", lambda *_: None)
    command = ["experiment", "contributions", str(model_folder), str(cohort), *options]
    few = ["--threshold", "0.999999", "--voxels-per-lesion", "2"]  # the missed ones are left
    assert main([*command, str(tmp_path / "few"), *few]) == 0
    assert "is that of 2 voxels of each" in " ".join(capsys.readouterr().out.split())
    monkeypatch.setattr("jaxsal.cohort.job.maps_of", None)  # all that is to be computed is there
    assert main([*command, str(study.out), "--least-value", "0.02"]) == 0
    rows = read_table(study.out / "contributions.tsv")
    assert len(rows) == len(found["contributions"].rows)
    said = " ".join(capsys.readouterr().out.split())
    assert "positive_share_inside" in said
    assert "note: medians are of values whose magnitude is at least 0.02" in said


def test_groups_need_references(tiny_model: Model, entries: list[Entry], tmp_path: Path) -> None:
    bare = [dataclasses.replace(e, scan=Scan(e.scan.images)) for e in entries]
    with pytest.raises(InputError, match="no scan has one"):
        ask("groups", study_of(tiny_model, bare, tmp_path))
    mixed = study_of(tiny_model, [entries[0], bare[1]], tmp_path / "mixed")
    findings = ask("groups", mixed)
    assert {row["scan"] for row in findings.rows} == {entries[0].id}
    assert any("without a reference: pät 1" in note for note in findings.notes)


def test_groups_of_one_lesion(tiny_model: Model, entries: list[Entry], tmp_path: Path) -> None:
    reference = np.zeros(SHAPE, np.uint8)
    reference[MISSED] = 1
    scan = Scan(entries[0].scan.images, save(tmp_path / "one.nii.gz", reference))
    findings = ask(
        "groups",
        study_of(
            tiny_model,
            [dataclasses.replace(entries[0], scan=scan)],
            tmp_path / "out",
            prediction=BLIND,
        ),
    )
    assert sorted(row["kind"] for row in findings.rows) == ["FN", "TN", "TN", "TN"]
    assert not [row for row in findings.summary if "first" in row]  # too few to be tested
    assert {row["low"] for row in findings.summary if "low" in row} == {None}
    assert any("there are none of FP, TP" in note for note in findings.notes)


@pytest.mark.parametrize("name", ["contributions", "aggregation", "levels"])
def test_one_lesion_only(name: str, found: dict[str, Findings], one: Study) -> None:
    findings = ask(name, one)
    assert {row.get("label", 5) for row in findings.rows} == {5}
    if name == "levels":
        assert findings.figure is None
        assert [row["neighbour"] for row in findings.rows] == [None, None]
        assert {row["n"] for row in findings.summary} == {0}
    if name == "aggregation":
        assert {row["spearman_with_volume"] for row in findings.summary} == {None}


@pytest.fixture(scope="module")
def one(tiny_model: Model, entries: list[Entry], tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A scan of which a single lesion is given."""
    folder = tmp_path_factory.mktemp("one")
    labels = np.zeros(SHAPE, np.int32)
    labels[8:11, 9:12, 8:10] = 5
    given = Scan(entries[0].scan.images, instances=save(folder / "one.nii.gz", labels))
    return study_of(tiny_model, [Entry("one", given, {"subject": "one"})], folder / "out")


@pytest.mark.parametrize("name", ["contributions", "aggregation", "levels"])
def test_no_lesion_at_all(
    name: str, tiny_model: Model, entries: list[Entry], tmp_path: Path
) -> None:
    bare = [dataclasses.replace(entries[0], scan=Scan(entries[0].scan.images))]
    findings = ask(name, study_of(tiny_model, bare, tmp_path, prediction=BLIND))
    assert (findings.rows, findings.summary, findings.figure) == ([], [], None)
    assert any("no lesion was found" in note for note in findings.notes)
