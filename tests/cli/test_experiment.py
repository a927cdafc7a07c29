"""The command's options, experiment by experiment, and what it tells of settings."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

import jaxsal.experiments.study as module
from jaxsal.cli.experiment import _facts, add_parser
from jaxsal.experiments.settings import SETTINGS, ContextSettings, SanitySettings
from jaxsal.experiments.study import Study
from jaxsal.model import Model
from jaxsal.settings import SmoothGradSettings

SALIENCY = ("samples", "seed", "noise", "voxels_per_lesion", "memory", "field")
USES_NO_MAPS_OF_THE_COHORT = {"sanity", "synthetic", "context"}


@pytest.mark.parametrize("name", SETTINGS)
def test_an_experiment_has_the_options_that_it_uses(name: str) -> None:
    parser = argparse.ArgumentParser()
    add_parser(parser.add_subparsers())
    options = vars(parser.parse_args(["experiment", name, "model", "scans.tsv", "--out", "out"]))
    assert ("maps" in options) == (name not in USES_NO_MAPS_OF_THE_COHORT)
    assert [option in options for option in SALIENCY] == [name != "context"] * len(SALIENCY)


def test_what_an_experiment_does_not_use_is_not_told(tiny_model: Model, tmp_path: Path) -> None:
    study = Study(tiny_model, [], tmp_path, saliency=SmoothGradSettings(samples=3))
    told = _facts(study, ContextSettings(steps=7))
    assert "saliency" not in told
    assert told["settings"]["steps"] == 7
    assert _facts(study, SanitySettings())["saliency"]["samples"] == 3


def test_facts_are_found_once(
    tiny_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(module, "model_facts", lambda model: asked.append(model) or {})
    study = Study(tiny_model, [], tmp_path)
    assert not list(study.each_scan("any", {}, lambda entry, prediction: []))
    assert study.facts["scans"] == []
    assert asked == [tiny_model]
