"""Bleed between lesions side by side: gaps by brute force, toy maps, and a tiny cohort."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from helpers.cohorts import PREDICTION, make_cohort
from helpers.counted_maps import counted_maps
from helpers.tiny import CHANNELS, ROI, SHAPE
from scipy import stats

from jaxsal.cli.experiment import show_findings
from jaxsal.cli.main import main
from jaxsal.devices import computing_on
from jaxsal.errors import InputError
from jaxsal.experiments.adjacency import COLUMNS, AdjacencySettings, adjacency, bleeding, methods_of
from jaxsal.experiments.adjacency_figure import draw
from jaxsal.experiments.adjacency_gaps import copies_beside, moved, pairs_within
from jaxsal.experiments.adjacency_summary import (
    SUMMARY_COLUMNS,
    answer_of,
    summary_of,
    untested_below,
)
from jaxsal.experiments.faithfulness_maps import maps_of_methods
from jaxsal.experiments.findings import Findings, write_findings
from jaxsal.experiments.study import Study
from jaxsal.experiments.synthetic_grafts import Graft
from jaxsal.field.sliding import sliding_window
from jaxsal.grid import Grid
from jaxsal.model import Model
from jaxsal.saliency.maps import Crop
from jaxsal.saliency.methods.smoothgrad import SmoothGradSettings
from jaxsal.saliency.smoothgrad import smoothgrad
from jaxsal.tables import Row

SPACING = np.array([1.0, 0.9, 1.2])


def brute_gap(one: np.ndarray, other: np.ndarray, spacing: np.ndarray = SPACING) -> float:
    """Between two sets of voxels (V, 3), each a box."""
    apart = np.maximum(np.abs(one[:, None] - other[None]) - 1, 0) * spacing
    return float(np.linalg.norm(apart, axis=-1).min())


def test_gaps_are_those_between_the_nearest_faces_edges_or_corners() -> None:
    rng = np.random.default_rng(0)
    lesions = {
        label: rng.integers(0, 4, (12, 3)) + place
        for label, place in ((1, [0, 0, 0]), (2, [6, 1, 2]), (3, [9, 9, 9]), (5, [0, 40, 0]))
    }
    found = {(one, other): gap for one, other, gap in pairs_within(lesions, SPACING, 12)}
    assert set(found) == {(1, 2), (1, 3), (2, 3)}
    for (one, other), gap in found.items():
        assert gap == pytest.approx(brute_gap(lesions[one], lesions[other]))
    touching = {1: np.array([[0, 0, 0]]), 2: np.array([[1, 1, 0]]), 3: np.array([[3, 0, 0]])}
    near = {(one, other): gap for one, other, gap in pairs_within(touching, SPACING, 5)}
    assert near == {(1, 2): 0, (1, 3): pytest.approx(2), (2, 3): pytest.approx(1)}


def test_copies_lie_at_their_gaps_where_there_is_room() -> None:
    omega = np.zeros((40, 12, 12), bool)
    omega[5:8, 5:7, 5] = omega[6, 5, 5:8] = True
    allowed = np.zeros_like(omega)
    allowed[3:30, 3:9, 3:9] = True
    allowed[12:14] = False  # another lesion
    grid = Grid(omega.shape, np.diag([*SPACING, 1.0]))
    graft = Graft.of(omega, 0, grid)
    copies = copies_beside(graft, allowed, (1, 3, 6, 12, 60), grid, np.random.default_rng(0))
    assert [wanted for wanted, _, _ in copies] == [
        1,
        6,
        12,
    ]  # another is at 3 mm, and the grid ends before 60
    for wanted, gap, corner in copies:
        there = np.argwhere(graft.omega) + corner
        assert gap == pytest.approx(brute_gap(np.argwhere(omega), there))
        assert abs(gap - wanted) <= 0.5
        assert allowed[tuple(there.T)].all()


def test_gaps_that_large_voxels_do_not_tell_apart_have_one_copy() -> None:
    omega = np.zeros((30, 5, 5), bool)
    omega[4, 2, 2] = True
    grid = Grid(omega.shape, np.diag([3.0, 3.0, 3.0, 1.0]))
    graft = Graft.of(omega, 0, grid)
    gaps = (1.0, 2.0, 3.0, 5.0, 7.0, 10.0)
    copies = copies_beside(graft, ~omega, gaps, grid, np.random.default_rng(0))
    # 1 mm is further than half a voxel from 3; 5 and 7 are as near to 6, and the first one has it
    assert [(wanted, gap) for wanted, gap, _ in copies] == [(3, 3), (5, 6), (10, 9)]


def test_gaps_of_whole_voxels_that_are_not_those_asked_for_are_told() -> None:
    assert "such as 1.5 mm for 1" in moved([1.5, 4.5], (1.0, 5.0))
    assert moved([0.3 * 10, 6.0], (3.0, 6.0)) == moved([], (1.0,)) == ""


def test_bleed_of_a_toy_map() -> None:
    values = np.zeros((4, 1, 1, 2), np.float32)
    values[:, 0, 0] = [[-8, 0], [4, 0], [2, 0], [1, 0]]
    own, other = np.array([[10, 0, 0]]), np.array([[12, 0, 0], [13, 0, 0], [99, 0, 0]])
    rows = list(bleeding({"method": "max"}, Crop(values, (10, 0, 0), 1), own, other, CHANNELS))
    assert [row["channel"] for row in rows] == ["flair", "t1"]
    assert (rows[0]["bleed"], rows[0]["mass_share"]) == (2 / 8, 3 / 15)
    assert (rows[1]["bleed"], rows[1]["mass_share"]) == (None, None)  # a map of zeros
    (heat,) = bleeding(
        {"method": "gradcam++"}, Crop(values[..., :1], (10, 0, 0), 1), own, other, "ab"
    )
    assert (heat["channel"], heat["bleed"]) == ("heat", 2 / 8)


def decaying(patients: int, method: str = "max", length: float = 2.0) -> Iterator[Row]:
    """Pairs at gaps of 1 to 20 mm whose bleed decays with the gap."""
    for patient in range(patients):
        for gap in (1.0, 2, 3, 5, 7, 10, 15, 20):
            yield {
                "source": "copy",
                "scan": str(patient),
                "subject": str(patient),
                "label": 1,
                "neighbour": None,
                "gap_mm": gap,
                "method": method,
                "channel": "flair",
                "bleed": np.exp(-gap / length) * (1 + 0.1 * patient),
                "mass_share": 0.5 * np.exp(-gap / length),
            }


def test_the_answer_is_where_the_interval_stays_below_5_percent() -> None:
    summary = summary_of(list(decaying(8)))
    gaps = (1, 2, 3, 5, 7, 10, 15, 20)
    bleeds = [row for row in summary if row.get("figure") == "bleed"]
    shares = [row for row in summary if row.get("figure") == "mass_share"]
    for bleed, share, gap in zip(bleeds, shares, gaps, strict=True):
        assert (bleed["n"], bleed["patients"]) == (8, 8)
        assert bleed["gap_from"] == bleed["gap_to"] == gap
        assert bleed["value"] == pytest.approx(np.exp(-gap / 2) * 1.35)
        assert bleed["low"] < bleed["value"] < bleed["high"]
        assert share["value"] == share["high"] == pytest.approx(0.5 * np.exp(-gap / 2))
    (answer,) = (row for row in summary if "reliable_from_mm" in row)
    # e^(-3.5) · 1.35 is 0.041, and the interval ends below 1.7 times e^(-3.5), which is 0.051
    assert (answer["reliable_from_mm"], answer["median_from_mm"]) == (7, 7)
    assert answer["tested_to_mm"] == 20
    assert set().union(*summary) <= set(SUMMARY_COLUMNS)


def test_an_answer_needs_all_larger_gaps_and_intervals() -> None:
    def told(*bleeds: float | None, ends: float | None = None) -> tuple[object, object]:
        found = answer_of(
            [
                {"value": b, "high": ends and b, "gap_from": i, "gap_to": i, "n": 5}
                for i, b in enumerate(bleeds)
            ]
        )
        return found["median_from_mm"], found["reliable_from_mm"]

    assert told(0.3, 0.04, 0.03) == (1, None)
    assert told(0.3, 0.04, 0.03, ends=1) == (1, 1)
    assert told(0.01, 0.06, 0.03) == (2, None)
    assert told(0.01, None, 0.03) == (0, None)  # too few say nothing
    assert told(0.01, 0.03, 0.05) == (None, None)
    assert told() == (None, None)


def _class(gap: float, value: float | None, high: float | None) -> Row:
    return {"value": value, "high": high, "gap_from": gap - 1, "gap_to": gap, "n": 9}


def test_a_class_without_an_interval_says_nothing_where_others_have_one() -> None:
    """Such as a far one with five pairs, but of fewer patients than an interval needs."""
    near, far = _class(3, 0.06, 0.09), _class(20, 0.9, None)
    classes = [near, _class(6, 0.01, 0.04), _class(8, 0.2, None), _class(12, 0.01, 0.02), far]
    answer = answer_of(classes)
    assert (answer["reliable_from_mm"], answer["median_from_mm"]) == (6, 6)
    assert (answer["tested_from_mm"], answer["tested_to_mm"], answer["n"]) == (2, 12, 27)
    without = answer_of([{**row, "high": None} for row in classes])
    assert (without["reliable_from_mm"], without["median_from_mm"]) == (None, None)
    assert (without["tested_to_mm"], without["n"]) == (20, 45)


def test_what_holds_of_a_class_is_said_of_its_largest_gap() -> None:
    rows = [{**row, "gap_mm": row["gap_mm"] + 0.1 * int(row["scan"])} for row in decaying(8)]
    (answer,) = (row for row in summary_of(rows) if "reliable_from_mm" in row)
    assert (answer["reliable_from_mm"], answer["tested_to_mm"]) == (7.7, 20.7)


def test_an_answer_that_nothing_smaller_was_asked_for_says_so() -> None:
    """Far pairs alone: bleed is small from the first class on, and may be below it."""
    far = [row for row in decaying(8) if row["gap_mm"] >= 10]
    summary = summary_of([*far, *decaying(8, "mean")])
    answers = {row["method"]: row for row in summary if "tested_from_mm" in row}
    assert (answers["max"]["tested_from_mm"], answers["max"]["reliable_from_mm"]) == (10, 10)
    assert (answers["mean"]["tested_from_mm"], answers["mean"]["reliable_from_mm"]) == (1, 7)
    (said,) = untested_below(summary)
    assert "gaps below 10 mm could not be tested" in said
    assert "(max of flair)" in said
    touching = summary_of([{**row, "gap_mm": 0.0, "bleed": 0.01} for row in decaying(8)])
    assert not list(untested_below(touching))


def test_methods_are_compared_pair_by_pair() -> None:
    rows = [*decaying(3), *decaying(3, "mean", length=4)]
    (found,) = (row for row in summary_of(rows) if "first" in row)
    near = [
        (a["bleed"], b["bleed"])
        for a, b in zip(decaying(3), decaying(3, "mean", 4), strict=True)
        if a["gap_mm"] <= 10
    ]
    assert (found["first"], found["second"], found["n"]) == ("max", "mean", 18)
    differences = np.subtract(*np.transpose(near))
    assert found["difference"] == pytest.approx(np.median(differences))
    assert found["p"] == found["p_holm"] == pytest.approx(stats.wilcoxon(differences).pvalue)


def test_methods_are_not_compared_by_fewer_than_five_pairs() -> None:
    near = [row for row in decaying(4) if row["gap_mm"] == 10]
    (found,) = (
        row
        for row in summary_of([*near, *({**r, "method": "mean"} for r in near)])
        if "first" in row
    )
    assert (found["n"], found["difference"]) == (4, None)


def test_lines_join_medians_of_five_pairs_or_more() -> None:
    some = [row for row in decaying(5) if row["gap_mm"] != 3 or row["scan"] != "0"]
    (axes,) = draw(some).axes
    joined = max((list(line.get_xdata()) for line in axes.lines), key=len)
    assert joined == [1, 2, 5, 7, 10, 15, 20]


def test_a_tolerance_is_that_of_all_maps_that_are_compared(
    tiny_model: Model, tmp_path: Path
) -> None:
    saliency = SmoothGradSettings(samples=50, tolerance=0.1)
    study = Study(tiny_model, [], tmp_path, saliency=saliency)
    methods = methods_of(study, AdjacencySettings())
    assert {name: each.tolerance for name, each in methods.items()} == {"max": 0.1, "mean": 0.1}


@pytest.mark.parametrize("wrong", [{"gaps": ()}, {"gaps": (0.0,)}, {"reach": -1}, {"lesions": -1}])
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        AdjacencySettings(**wrong)


SETTINGS = AdjacencySettings((5, 60), lesions=1, gaps=(1.0, 3.0), reach=9.0, layer="decoder.0")


@pytest.fixture(scope="module")
def study(
    tiny_model: Model, one_device: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Study]:
    folder = tmp_path_factory.mktemp("adjacency")
    saliency = SmoothGradSettings(samples=1, memory=2**30)
    with computing_on(None):
        yield Study(tiny_model, make_cohort(folder, 1), folder / "out", PREDICTION, saliency)


@pytest.fixture(scope="module")
def found(study: Study) -> Findings:
    return adjacency(study, SETTINGS)


def test_real_pairs_are_those_of_the_maps_files(
    study: Study, found: Findings, tmp_path: Path
) -> None:
    results = study.lesions()
    (scan,) = results.scans()
    rows = [r for r in found.rows if (r["source"], r["method"]) == ("real", "max")]
    assert rows
    for row in rows:
        crop = scan.map(row["label"], results.methods["smoothgrad-max"])
        dense = np.abs(crop.box.place(crop.values, SHAPE))[..., CHANNELS.index(row["channel"])]
        own, other = (scan.labels == row[key] for key in ("label", "neighbour"))
        assert row["bleed"] == pytest.approx(dense[other].max() / dense[own].max())
        assert row["mass_share"] == pytest.approx(dense[other].sum() / dense.sum(), rel=1e-4)
        gap = brute_gap(np.argwhere(own), np.argwhere(other), np.array(scan.grid.spacing))
        assert row["gap_mm"] == pytest.approx(gap)
        assert gap <= 9
    assert {row["method"] for row in found.rows} == {"max", "mean", "gradcam++"}
    assert set().union(*found.rows) == set(COLUMNS)
    assert found.figure is not None
    assert len(write_findings(found, tmp_path, "adjacency", {}, dpi=20)) == 3
    assert any("is one patient" in note for note in found.notes)
    assert any("pairs: medians need 5" in note for note in found.notes)
    assert any("copies are moved by whole voxels" in note for note in found.notes)


def test_summaries_fit_a_terminal(found: Findings, capsys: pytest.CaptureFixture[str]) -> None:
    show_findings(dataclasses.replace(found, notes=()))
    assert max(len(line.rstrip()) for line in capsys.readouterr().out.splitlines()) <= 100


@pytest.mark.parametrize("method", ["max", "mean"])
def test_copies_are_explained_in_an_image_that_has_them(
    method: str, study: Study, found: Findings
) -> None:
    (scan,) = study.lesions().scans()
    rows = [r for r in found.rows if (r["source"], r["method"]) == ("copy", method)]
    row = next(r for r in rows if r["channel"] == "t1")
    omega = scan.labels == row["label"]
    spacing = np.array(scan.grid.spacing)
    places = []
    for axis in range(3):
        for shift in [*range(-9, 0), *range(1, 10)]:
            copy = np.roll(omega, shift, axis)
            if (copy & omega).any() or not _same_size(copy, omega, axis, shift):
                continue
            if brute_gap(np.argwhere(omega), np.argwhere(copy), spacing) == pytest.approx(
                row["gap_mm"]
            ):
                places.append(copy)
    field = sliding_window(study.model, roi=ROI)
    ratios = []
    for copy in places:
        image = scan.image.copy()
        image[copy] = image[omega]
        maps = smoothgrad(field, image, omega.astype(np.int32), aggregate=method, samples=1)
        dense = np.abs(maps.dense(1))[..., 1]
        ratios.append(dense[copy].max() / dense[omega].max())
    assert any(row["bleed"] == pytest.approx(ratio, rel=1e-4) for ratio in ratios)


def _same_size(copy: np.ndarray, omega: np.ndarray, axis: int, shift: int) -> bool:
    """Whether nothing was moved over the edge of the grid."""
    first = np.argwhere(omega)[:, axis].min() + shift
    last = np.argwhere(omega)[:, axis].max() + shift
    return first >= 0 and last < omega.shape[axis]


def test_copies_that_were_kept_under_another_name_are_read_as_copies(
    study: Study, found: Findings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = dataclasses.replace(study, out=tmp_path / "out", notes=[])
    shutil.copytree(study.out, own.out)
    (record,) = (own.out / ".jaxsal" / "adjacency").glob("*.json")
    kept = json.loads(record.read_text(encoding="utf-8"))
    for row in kept["rows"]:
        row["source"] = "synthetic"
    record.write_text(json.dumps(kept), encoding="utf-8")
    monkeypatch.setattr("jaxsal.experiments.direct.maps_of", None)
    monkeypatch.setattr("jaxsal.experiments.adjacency.draw", lambda *_: None)
    assert list(adjacency(own, SETTINGS).rows) == list(found.rows)


def test_a_second_call_computes_nothing(
    study: Study, found: Findings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (
        "cohort.job.maps_of",
        "cohort.job.find_uncertain_lesions",
        "experiments.direct.maps_of",
    ):
        monkeypatch.setattr(f"jaxsal.{name}", None)
    monkeypatch.setattr("jaxsal.experiments.each_scan.find_lesions", None)
    monkeypatch.setattr("jaxsal.experiments.adjacency.draw", lambda *_: None)
    again = adjacency(dataclasses.replace(study, notes=[]), SETTINGS)
    assert list(again.rows) == list(found.rows)


def test_maps_are_shared_with_other_experiments(
    study: Study, found: Findings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jaxsal.cohort.job.maps_of", None)
    for maps in maps_of_methods(study, ("smoothgrad", "gradcam++"), "decoder.0", few=False):
        ((_, record),) = maps.records.items()
        assert all(record(entry).exists() for entry in study.entries)


def test_lesions_that_are_done_are_not_computed_again(
    study: Study, found: Findings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However an experiment ended before the scan was done."""
    (record,) = (study.out / ".jaxsal" / "adjacency").glob("*.json")
    record.unlink()
    monkeypatch.setattr("jaxsal.experiments.direct.maps_of", None)
    monkeypatch.setattr("jaxsal.experiments.adjacency.draw", lambda *_: None)
    again = adjacency(dataclasses.replace(study, notes=[]), SETTINGS)
    assert list(again.rows) == list(found.rows)


@pytest.mark.parametrize(
    ("changed", "seed", "maps"),
    [({}, 0, 0), ({"layer": "decoder.1"}, 0, 6), ({"gaps": (3.0,)}, 0, 3), ({}, 1, 6)],
)
def test_lesions_of_other_settings_are_computed_again(
    changed: dict[str, Any],
    seed: int,
    maps: int,
    study: Study,
    found: Findings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of copies; of real lesions there are none."""
    computed = counted_maps(monkeypatch)
    nothing = SimpleNamespace(scans=list, methods={"any": ""})
    for name in ("lesions", "run", "run_method"):
        monkeypatch.setattr(Study, name, lambda *_: nothing)
    monkeypatch.setattr("jaxsal.experiments.adjacency.draw", lambda *_: None)
    saliency = dataclasses.replace(study.saliency, seed=seed)
    own = dataclasses.replace(study, out=tmp_path / "out", saliency=saliency, notes=[])
    shutil.copytree(study.out, own.out)
    adjacency(own, dataclasses.replace(SETTINGS, **changed))
    assert len(computed) == maps  # by three methods at each gap


@pytest.mark.parametrize(
    ("volume", "gap", "said"),
    [((5, 60), 90.0, "at 0 of 1 gaps: for others there is no room"), ((1, 2), 3.0, "has 1 to 2")],
)
def test_no_copy_is_said_with_its_reason(
    volume: tuple[float, float], gap: float, said: str, study: Study, tmp_path: Path
) -> None:
    own = dataclasses.replace(study, notes=[], out=tmp_path)
    adjacency(own, AdjacencySettings(volume, lesions=1, gaps=(gap,), reach=0))
    reasons = [note for note in own.notes if "gaps" in note or "no lesion" in note]
    assert len(reasons) == 1
    assert said in reasons[0]


def test_gaps_that_are_no_numbers_are_refused_on_the_command_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        main(["experiment", "adjacency", "m", "s.tsv", "--out", "o", "--gaps", "1;2"])
    assert "with commas between" in capsys.readouterr().err
