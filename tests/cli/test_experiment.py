"""The command's options, experiment by experiment, and what it tells of settings."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest
from helpers.tiny import TinyScan

import jaxsal.experiments.study as module
from jaxsal.cli.experiment import facts_of
from jaxsal.cli.main import main
from jaxsal.experiments.catalogue import EXPERIMENTS, Experiment, experiment
from jaxsal.experiments.context import ContextSettings
from jaxsal.experiments.each_scan import each_scan
from jaxsal.experiments.findings import Findings
from jaxsal.experiments.sanity import SanitySettings
from jaxsal.experiments.study import Study
from jaxsal.model import Model
from jaxsal.saliency.methods.smoothgrad import SmoothGradSettings
from jaxsal.tables import Row

SALIENCY = ("--samples", "--seed", "--noise", "--voxels-per-lesion", "--memory", "--field")
USES_NO_MAPS = {"context", "patch-size"}
TAKES_NO_TOLERANCE = {*USES_NO_MAPS, "stability", "randomisation"}
USES_NO_MAPS_OF_THE_COHORT = {
    *("sanity", "synthetic", "context", "stability", "randomisation", "uncertainty"),
    "patch-size",
}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_has_the_options_that_it_uses(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(["experiment", name, "--help"])
    assert end.value.code == 0
    options = re.findall(r"^  (--\S+)", capsys.readouterr().out, re.MULTILINE)
    own = [f"--{field.name.replace('_', '-')}" for field in fields(experiment(name).settings)]
    assert set(own) <= set(options)
    assert ("--maps" in options) == (name not in USES_NO_MAPS_OF_THE_COHORT)
    assert ("--tolerance" in options) == (name not in TAKES_NO_TOLERANCE)
    assert [option in options for option in SALIENCY] == [name not in USES_NO_MAPS] * len(SALIENCY)


def test_what_an_experiment_does_not_use_is_not_told(tiny_model: Model, tmp_path: Path) -> None:
    study = Study(tiny_model, [], tmp_path, saliency=SmoothGradSettings(samples=3))
    told = facts_of(study, ContextSettings(steps=7), uses_saliency=False)
    assert "saliency" not in told
    assert told["settings"]["steps"] == 7
    assert facts_of(study, SanitySettings())["saliency"]["samples"] == 3


def test_facts_are_found_once(
    tiny_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(module, "model_facts", lambda model: asked.append(model) or {})
    study = Study(tiny_model, [], tmp_path)
    assert not each_scan(study, "any", {}, lambda entry, prediction: [])
    assert study.facts["scans"] == []
    assert asked == [tiny_model]


@pytest.fixture
def command(scan: TinyScan, model_folder: Path, tmp_path: Path) -> list[str]:
    """An experiment on one scan; its results go to a folder of its own."""
    cohort = tmp_path / "scans.tsv"
    cohort.write_text(f"scan\tflair\tt1\none\t{scan.flair}\t{scan.t1}\n", encoding="utf-8")
    out = str(tmp_path / "out")
    return ["experiment", "groups", str(model_folder), str(cohort), "--out", out]


@pytest.mark.parametrize(
    ("rows", "left_out", "status"),
    [([{"n": 1}], [], 0), ([{"n": 1}], ["one"], 3), ([], [], 1), ([], ["one"], 1)],
)
def test_the_exit_status_tells_of_scans_left_out_and_of_nothing_to_tell(
    rows: list[Row],
    left_out: list[str],
    status: int,
    command: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def found(study: Study, settings: object) -> Findings:
        study.left_out.update(left_out)
        return Findings({"n": ""}, rows, [], None)

    monkeypatch.setattr("jaxsal.experiments.groups.EXPERIMENT", Experiment(found))
    assert main(command) == status


@pytest.mark.parametrize(
    "where", ["jaxsal.checkpoints.load_model", "jaxsal.store.run_folder.locked"]
)
def test_whenever_it_is_interrupted_what_is_recorded_stays(
    where: str,
    command: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(where, interrupt)
    assert main(command) == 130
    assert "what is recorded stays, the same command goes on" in capsys.readouterr().err
