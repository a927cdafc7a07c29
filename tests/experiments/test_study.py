"""What a study says and does about runs over its scans."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import jaxsal.experiments.study as module
from jaxsal.experiments.maps_by_method import maps_by
from jaxsal.experiments.study import Study
from jaxsal.inputs.entries import Entry, Scan
from jaxsal.model import Model
from jaxsal.progress import Silence
from jaxsal.saliency.methods.vargrad import VarGradSettings


class BegunError(Exception):
    """A run was begun."""


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a run is begun with; it does not go on."""
    asked: dict[str, Any] = {}

    def run_cohort(*_: Any, **options: Any) -> None:
        asked.update(options)
        raise BegunError

    monkeypatch.setattr(module, "run_cohort", run_cohort)
    return asked


def test_scans_that_failed_before_are_tried_again(
    begun: dict[str, Any], tiny_model: Model, tmp_path: Path
) -> None:
    with pytest.raises(BegunError):
        Study(tiny_model, [], tmp_path).lesions()
    assert begun["retry_failed"]


@pytest.mark.usefixtures("begun")
def test_approximated_maps_of_any_method_are_noted(tiny_model: Model, tmp_path: Path) -> None:
    study = Study(tiny_model, [], tmp_path)
    with pytest.raises(BegunError):
        maps_by(study, VarGradSettings(samples=2, voxels_per_lesion=5))
    assert any("of 5 voxels of each" in note for note in study.notes)


class Lines(Silence):
    """A monitor that keeps the lines that stay."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, line: str) -> None:
        self.said.append(line)


def study_of(model: Model, out: Path, *scans: str) -> tuple[Study, Lines]:
    lines = Lines()
    entries = [Entry(scan, Scan(()), {"subject": scan}) for scan in scans]
    return Study(model, entries, out, monitor=lines), lines


def test_a_scan_that_fails_twice_for_one_reason_is_noted_once(
    tiny_model: Model, tmp_path: Path
) -> None:
    study, lines = study_of(tiny_model, tmp_path, "a", "b")
    study.leave_out("lesions", "a", "another grid")
    study.leave_out("faithfulness", "a", "another\n grid")
    study.leave_out("faithfulness", "a", "no lesion")
    assert study.notes == [
        "lesions: a is left out: another grid",
        "faithfulness: a is left out: no lesion",
    ]
    assert lines.said == study.notes


def test_only_failures_are_shown_before_the_findings(tiny_model: Model, tmp_path: Path) -> None:
    study, lines = study_of(tiny_model, tmp_path, "a")
    study.note("there is one patient")
    assert (study.notes, lines.said) == (["there is one patient"], [])


def test_what_no_scan_has_is_noted_unless_all_are_left_out(
    tiny_model: Model, tmp_path: Path
) -> None:
    study, _ = study_of(tiny_model, tmp_path, "a", "b")
    study.leave_out("lesions", "a", "another grid")
    study.note_none("no lesion was found")
    assert study.notes[1:] == ["no lesion was found"]
    other, _ = study_of(tiny_model, tmp_path, "a")
    other.leave_out("lesions", "a", "another grid")
    other.note_none("no lesion was found")
    assert len(other.notes) == 1
