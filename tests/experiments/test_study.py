"""What a study says and does about runs over its scans."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import jaxsal.experiments.study as module
from jaxsal.experiments.maps_by_method import maps_by
from jaxsal.experiments.study import Study
from jaxsal.model import Model
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
