"""The experiment on context: which lesions, what is told of them, and the curve."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.tiny import ROI, TinyScan, save
from matplotlib.cbook import STEP_LOOKUP_MAP

import jaxsal.experiments.context as module
from jaxsal.errors import InputError
from jaxsal.experiments.context import COLUMNS, SUMMARY_COLUMNS, ContextSettings, context, summary
from jaxsal.experiments.context_curve import context_figure, curve_of
from jaxsal.experiments.context_scores import ContextScores
from jaxsal.experiments.study import Study
from jaxsal.inputs.entries import Entry, Scan
from jaxsal.model import Model
from jaxsal.settings import PredictSettings

ALL = (0.0, 1e6)
MakeStudy = Callable[[], Study]


@pytest.fixture(scope="module")
def make_study(
    tiny_model: Model, scan: TinyScan, tmp_path_factory: pytest.TempPathFactory
) -> MakeStudy:
    out = tmp_path_factory.mktemp("study")
    entry = Entry("a scan", Scan(scan.images), {"subject": "01"})
    return lambda: Study(tiny_model, [entry], out, PredictSettings(roi=ROI))


@pytest.mark.parametrize("view", ["centred", "field"])
def test_every_lesion_and_step_has_a_row(view: str, make_study: MakeStudy) -> None:
    settings = ContextSettings(volume=ALL, steps=24, view=view, batch=4)
    findings = context(make_study(), settings)
    lesions = {row["label"] for row in findings.rows}
    assert len(findings.rows) == 25 * len(lesions) > 25
    assert all(set(row) == set(COLUMNS) for row in findings.rows)
    assert findings.figure is not None
    assert any("which shows little" in note for note in findings.notes)
    threshold = make_study().threshold
    for row in findings.rows:
        assert row["detected"] == (row["highest"] >= threshold)
        if row["step"] == 24 and view == "field":  # all of the scan is seen again
            assert row["score"] == pytest.approx(row["scan_score"], abs=1e-5)


def test_an_interrupted_experiment_goes_on(
    make_study: MakeStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ContextSettings(volume=ALL, steps=24, view="centred", batch=4)
    before = context(make_study(), settings)
    monkeypatch.delattr(module, "context_scores")  # nothing is computed again
    again = context(make_study(), ContextSettings(volume=ALL, steps=24, batch=3))
    assert list(again.rows) == list(before.rows)


def test_a_run_that_ends_within_a_scan_goes_on_at_the_lesion(
    make_study: MakeStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = replace(make_study(), out=tmp_path)
    whole, asked = context(make_study(), ContextSettings(volume=ALL, steps=24)), []
    compute = module.context_scores

    def until_the_first(*arguments: Any, **options: Any) -> Iterator[ContextScores]:
        asked.append(arguments[3])
        scores = compute(*arguments, **options)
        yield next(scores)
        if len(asked) == 1:
            raise KeyboardInterrupt
        yield from scores

    monkeypatch.setattr(module, "context_scores", until_the_first)
    with pytest.raises(KeyboardInterrupt):
        context(study, ContextSettings(volume=ALL, steps=24))
    found = context(study, ContextSettings(volume=ALL, steps=24))
    first, *others = asked[0]
    assert asked[1:] == [others]
    for row, expected in zip(found.rows, whole.rows, strict=True):
        assert row == pytest.approx(expected, abs=1e-6)
    size = next(row["volume_mm3"] for row in found.rows if row["label"] == first)
    some = context(study, ContextSettings(volume=(size, size), steps=24))
    labels = {row["label"] for row in some.rows}
    assert list(some.rows) == [row for row in found.rows if row["label"] in labels]
    assert len(asked) == 2  # nothing is computed again


def test_without_such_lesions_others_are_proposed(make_study: MakeStudy) -> None:
    findings = context(make_study(), ContextSettings(volume=(5000.0, 6000.0), steps=1))
    assert not findings.rows
    assert findings.figure is None
    assert any("--volume" in note and "5000" in note for note in findings.notes)


def test_a_lesion_larger_than_a_window_is_told(
    make_study: MakeStudy, scan: TinyScan, tmp_path: Path
) -> None:
    study = make_study()
    labels = np.zeros(scan.image.shape[:3], np.int32)
    labels[2:22, 10, 10] = 3
    labels[10:12, 12:14, 10:12] = 5
    entry = study.entries[0]
    given = Scan(entry.scan.images, instances=save(tmp_path / "given.nii.gz", labels))
    own = Study(
        study.model, [Entry("b", given, {"subject": "02"})], tmp_path / "out", study.prediction
    )
    findings = context(own, ContextSettings(volume=ALL, steps=1, batch=4))
    assert {row["label"] for row in findings.rows} == {5}
    assert {row["kind"] for row in findings.rows} == {"given"}
    assert any("lesion 3 is left out: it is larger than" in note for note in findings.notes)


def rows_of(scores: list[list[float]], threshold: float = 0.5) -> list[dict[str, float]]:
    return [
        {
            "step": step,
            "mm": 2.0 * step,
            "score": score,
            "detected": int(score >= threshold),
            "scan_score": 0.9,
        }
        for lesion in scores
        for step, score in enumerate(lesion)
    ]


def test_the_curve_is_mean_and_deviation_over_lesions() -> None:
    curve = curve_of(rows_of([[0.0, 0.2, 0.6, 0.8, 0.8], [0.2, 0.6, 0.6, 1.0, 1.0]]))
    np.testing.assert_allclose(curve.mean, [0.1, 0.4, 0.6, 0.9, 0.9])
    np.testing.assert_allclose(curve.std, np.sqrt([0.02, 0.08, 0, 0.02, 0.02]), atol=1e-12)
    assert curve.detected.tolist() == [0, 1, 2, 2, 2]
    assert (curve.plateau, curve.all_detected, curve.lesions) == (3, 2, 2)
    told = {row["what"].split(" (")[0]: row for row in summary(curve)}
    assert told["plateau"]["mm"] == 6.0
    assert told["all detected from here on"]["mm"] == 4.0
    assert told["score after 1 step"]["lesions"] == 2
    assert {tuple(row) for row in summary(curve)} == {tuple(SUMMARY_COLUMNS)}  # one table


@pytest.mark.parametrize("lesions", [1, 2])
def test_the_figure_tells_of_how_many_lesions(lesions: int) -> None:
    rows = rows_of([[0.0, 0.2, 0.6, 0.8]] * lesions)
    figure = context_figure(rows, curve_of(rows), 0.5)
    title = figure.get_suptitle()
    assert title.endswith(", 1 lesion" if lesions == 1 else ", 2 lesions")
    left, right = figure.axes
    assert left.get_title(loc="left").endswith(f"(n = {lesions})")
    assert left.get_xlabel() == right.get_xlabel() == "shown around the lesion, mm"
    told = {text.get_text() for text in left.get_legend().get_texts()}
    assert ("± std over lesions" in told) == (lesions > 1)


@pytest.mark.parametrize("size", [1.0, 0.4, 1.25])
def test_the_drawn_line_reaches_all_lesions_where_the_title_says(size: float) -> None:
    rows = rows_of([[0.0, 0.2, 0.6, 0.8], [0.2, 0.6, 0.6, 1.0]])
    rows = [{**row, "mm": size * row["step"]} for row in rows]
    _, axes = context_figure(rows, curve_of(rows), 0.5).axes
    line = axes.lines[0]
    drawn = STEP_LOOKUP_MAP[line.get_drawstyle()](*line.get_data())
    first = drawn[0][drawn[1] == 2].min()  # both are detected after two steps, not before
    assert first == 2 * size
    assert axes.get_title(loc="left") == f"Detected: all from {first:g} mm on (n = 2)"


def test_the_figure_says_so_if_all_are_always_detected() -> None:
    rows = rows_of([[0.9, 0.8, 0.9]])
    _, axes = context_figure(rows, curve_of(rows), 0.5).axes
    assert axes.get_title(loc="left") == "Detected: all at every step (n = 1)"


@pytest.mark.parametrize(
    ("scores", "plateau", "detected"),
    [
        ([0.0, 0.3, 0.5, 0.7], None, 2),  # still rising
        ([0.9, 0.1, 0.9, 0.9], 2, 2),  # a dip begins anew
        ([0.3, 0.3, 0.3, 0.3], 0, None),
        ([0.9, 0.9, 0.88, 0.2], None, None),  # not detected in the end
    ],
)
def test_where_it_settles(scores: list[float], plateau: int | None, detected: int | None) -> None:
    curve = curve_of(rows_of([scores]))
    assert (curve.plateau, curve.all_detected) == (plateau, detected)
    assert np.isnan(curve.std).all()  # of one lesion there is none
    assert all(row.get("std") is None for row in summary(curve))


@pytest.mark.parametrize(
    "changed", [{"volume": (5, 2)}, {"steps": 0}, {"steps": 300}, {"view": "x"}, {"batch": 0}]
)
def test_settings_out_of_range_are_refused(changed: dict[str, object]) -> None:
    with pytest.raises(InputError, match=next(iter(changed))):
        ContextSettings(**changed)
