"""A cohort of which some scans have parcellations."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.cohorts import OPTIONS, PREDICTION, SETTINGS, results, run
from helpers.official_validator import bids_issues
from helpers.tiny import SHAPE, load, read_table, save
from pyarrow import parquet

from jaxsal.cli.main import main
from jaxsal.cohort.check import check
from jaxsal.cohort.region_summary import RegionSummary
from jaxsal.cohort.report import write_report
from jaxsal.inputs.entries import Entry
from jaxsal.inputs.manifest import read_manifest
from jaxsal.model import Model
from jaxsal.saliency.methods.gradcam import GradCamSettings
from jaxsal.scan.explain import explain
from jaxsal.settings import CohortSettings, ExplainSettings

pytestmark = pytest.mark.thorough
TABLES = {"regions.tsv", "regions.json", "region_summary.tsv", "region_summary.json"}


def regions() -> np.ndarray:
    found = np.full(SHAPE, 3, np.int16)
    found[:, 14:], found[:2] = 5, 0
    return found


@pytest.fixture(scope="module")
def parcelled(entries: list[Entry], tmp_path_factory: pytest.TempPathFactory) -> list[Entry]:
    """Two scans with one parcellation and its names, and one without."""
    folder = tmp_path_factory.mktemp("regions")
    path, names = save(folder / "regions.nii.gz", regions()), folder / "names.tsv"
    names.write_text("index\tname\n3\tback\n5\tfront\n")
    with_regions = [
        replace(each, scan=replace(each.scan, parcellation=path, region_names=names))
        for each in entries[:2]
    ]
    return [*with_regions, entries[2]]


@pytest.fixture(scope="module")
def done(
    parcelled: list[Entry], tiny_model: Model, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Its run, by two methods; not to be changed."""
    out = tmp_path_factory.mktemp("out") / "done"
    both = (*SETTINGS.saliency, GradCamSettings(tiny_model.layers[1]))
    settings = replace(SETTINGS, saliency=both)
    run(tiny_model, parcelled, out, settings=settings)
    return out


def test_the_table_of_regions_holds_what_explain_writes(
    done: Path, parcelled: list[Entry], tiny_model: Model, tmp_path: Path
) -> None:
    settings = ExplainSettings(SETTINGS.saliency[0], pictures=False)
    explain(tiny_model, parcelled[1].scan, tmp_path / "one", PREDICTION, settings)
    expected = read_table(tmp_path / "one" / "regions.tsv")
    rows = read_table(done / "regions.tsv")
    found = [r for r in rows if (r["scan"], r["method"]) == ("pät 1", "smoothgrad-max")]
    assert len(found) == len(expected) > 0
    for row, same in zip(found, expected, strict=True):
        for key in ("label", "kind", "channel", "index", "region"):
            assert row[key] == same[key]
        for key in ("mass_share", "peak"):  # other portions round differently
            assert float(row[key]) == pytest.approx(float(same[key]), rel=1e-3, abs=1e-6)
    assert {row["scan"] for row in rows} == {"pät 0", "pät 1"}
    assert {row["method"] for row in rows} == {"smoothgrad-max", "gradcam++"}


def test_lesions_have_the_region_of_most_of_their_voxels(done: Path) -> None:
    rows = read_table(done / "lesions.tsv")
    names, labels = {0: "", 3: "back", 5: "front"}, regions()
    for row in rows:
        stem = f"sub-{row['subject']}/anat/sub-{row['subject']}_seg-lesions_dseg"
        voxels = labels[load(done / f"{stem}.nii.gz") == int(row["label"])]
        parts = row["subject"] != "02"  # which has no parcellation
        assert row["region"] == (names[np.bincount(voxels).argmax()] if parts else "")
        assert ("region" in read_table(done / f"{stem}.tsv")[0]) == parts
    shown = parquet.read_table(done / "lesions.parquet").to_pydict()["region"]
    assert [each or "" for each in shown] == [row["region"] for row in rows]
    assert {row["region"] for row in rows} == {"", "back", "front"}


def test_the_summary_has_medians_and_quartiles_over_maps_of_a_kind(done: Path) -> None:
    rows, summary = read_table(done / "regions.tsv"), read_table(done / "region_summary.tsv")
    for row in summary:
        key = ("method", "channel", "index", "region", "kind")
        own = [r for r in rows if all(r[k] == row[k] for k in key)]
        assert int(row["n"]) == len(own)
        of_kind = {(r["scan"], r["label"]) for r in rows if r["channel"] == row["channel"]}
        assert int(row["maps"]) == len(of_kind)
        for value in ("mass_share", "peak"):
            figures = [float(row[f"{value}_{name}"]) for name in ("q1", "median", "q3")]
            expected = np.percentile([float(r[value]) for r in own], [25, 50, 75])
            np.testing.assert_allclose(figures, expected, rtol=2e-5, atol=1e-9)  # six digits
    assert {(r["channel"], r["region"]) for r in summary} >= {
        ("flair", "back"),
        ("t1", "front"),
        ("gradcam++", "front"),
    }
    for name in ("regions", "region_summary"):
        columns = set(read_table(done / f"{name}.tsv")[0])
        assert set(json.loads((done / f"{name}.json").read_bytes())) == columns
    assert bids_issues(done, "error") == []


def test_a_summary_worked_out_by_hand() -> None:
    def lesion(kind: str, *parts: tuple[int, float, float]) -> dict[str, object]:
        of_map = {"method": "m", "channel": "c"}
        rows = [
            {**of_map, "index": i, "region": f"R{i}", "mass_share": share, "peak": peak}
            for i, share, peak in parts
        ]
        return {"label": 1, "kind": kind, "regions": rows}

    summary = RegionSummary()
    summary.add([lesion("TP", (1, 0.2, 4.0), (2, 0.8, 1.0)), lesion("FP", (2, 1.0, 3.0))])
    summary.add([lesion("TP", (1, 0.6, 2.0)), lesion("TP", (1, 1.0, 3.0)), {"kind": "TP"}])
    found = summary.rows()
    assert [(r["region"], r["kind"], r["n"], r["maps"]) for r in found] == [
        ("R1", "TP", 3, 3),
        ("R2", "FP", 1, 1),
        ("R2", "TP", 1, 3),
    ]
    of_first = {key: value for key, value in found[0].items() if "_" in key}
    assert of_first == pytest.approx(
        {"mass_share_q1": 0.4, "mass_share_median": 0.6, "mass_share_q3": 0.8}
        | {"peak_q1": 2.5, "peak_median": 3.0, "peak_q3": 3.5}
    )


def test_the_report_shows_the_summary(done: Path) -> None:
    write_report(done, pictures=False)
    page = (done / "report.html").read_text("utf-8")
    assert '<h2 id="regions">Regions</h2>' in page
    assert page.count('<td class="text">front</td>') >= 3
    assert "share of mass, median" in page


def test_a_report_without_parcellations_has_no_such_part(finished: Path, tmp_path: Path) -> None:
    assert not TABLES & {path.name for path in finished.iterdir()}
    assert "region" not in read_table(finished / "lesions.tsv")[0]


def test_scans_whose_parcellation_changed_are_done_again(
    parcelled: list[Entry], tiny_model: Model, tmp_path: Path
) -> None:
    out, other = tmp_path / "out", save(tmp_path / "other.nii.gz", regions()[:, ::-1].copy())
    tables = CohortSettings(SETTINGS.saliency, output="table", portion=20)

    def again(entries: list[Entry]) -> list[bool]:
        return [each.is_new for each in run(tiny_model, entries, out, settings=tables)]

    assert again(parcelled[:2]) == [True, True]
    before = results(out)
    assert again(parcelled[:2]) == [False, False]
    assert results(out) == before
    changed = replace(parcelled[1], scan=replace(parcelled[1].scan, parcellation=other))
    assert sorted(again([parcelled[0], changed])) == [False, True]
    assert results(out)["regions.tsv"] != before["regions.tsv"]
    without = [
        replace(e, scan=replace(e.scan, parcellation=None, region_names=None))
        for e in parcelled[:2]
    ]
    assert again(without) == [True, True]
    assert not TABLES & {path.name for path in out.iterdir()}


def test_a_scan_with_a_bad_parcellation_fails_and_the_others_are_done(
    parcelled: list[Entry], model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    affine = np.eye(4)
    affine[:3, 3] = 500
    save(tmp_path / "far.nii.gz", np.ones((4, 4, 4), np.uint8), affine)
    good, names = parcelled[0].scan.parcellation, parcelled[0].scan.region_names
    lines = ["scan\tflair\tt1\tparcellation\tregion_names"]
    lines += ["\t".join(map(str, ["a", *parcelled[0].scan.images, good, names]))]
    lines += ["\t".join(map(str, ["b", *parcelled[1].scan.images, "far.nii.gz", ""]))]
    table = tmp_path / "scans.tsv"
    table.write_text("\n".join(lines) + "\n", "utf-8")
    found = check(read_manifest(table, ["flair", "t1"]), ("flair", "t1"), processes=1)
    assert [(p.id, p.role) for p in found] == [("b", "parcellation")]
    out = tmp_path / "out"
    assert main(["cohort", "run", str(model_folder), str(table), "--out", str(out), *OPTIONS]) == 3
    assert "of the brain lies in its field of view" in capsys.readouterr().err
    assert {row["scan"] for row in read_table(out / "regions.tsv")} == {"a"}
