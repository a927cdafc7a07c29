"""Uncertainty by the commands: maps, columns, candidates that are explained, runs that go on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.tiny import ROI, TinyScan, contents, load, read_table

import jaxsal.scan.explain as explaining
from jaxsal.cli.main import main

MEMBERS = ["--uncertainty", "noise", "--members", "2", "--member-noise", "0.2"]
CANDIDATES = ["--candidates", "0.69"]
MAPS = ["--samples", "1", "--memory", "1", "--no-pictures"]


@pytest.fixture
def scan_options(scan: TinyScan, model_folder: Path) -> list[str]:
    return [str(model_folder), "--image", *map(str, scan.images), "--roi", str(ROI[0])]


def run(*words: object) -> int:
    return main([*map(str, words)])


def test_candidates_are_a_label_map_that_can_be_explained(
    scan_options: list[str], tmp_path: Path
) -> None:
    found, out = tmp_path / "found", tmp_path / "out"
    assert run("predict", *scan_options, *MEMBERS, *CANDIDATES, "--out", found) == 0
    candidates = load(found / "candidates.nii.gz")
    assert candidates.max() > 0
    given = ["--instances", found / "candidates.nii.gz", "--out", out]
    assert run("explain", *scan_options, *MAPS, *given) == 0
    rows = read_table(out / "instances.tsv")
    voxels = np.bincount(candidates[candidates > 0])[1:]
    assert [int(row["voxels"]) for row in rows] == voxels.tolist()
    assert {row["kind"] for row in rows} == {"given"}
    assert all(float(row["flair_max"]) > 0 for row in rows)


@pytest.mark.thorough
def test_an_interrupted_explanation_goes_on_to_the_same_uncertainty(
    scan_options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, out = tmp_path / "whole", tmp_path / "out"
    arguments = ["explain", *scan_options, *MEMBERS, *MAPS]
    assert run(*arguments, "--out", whole) == 0
    assert {"entropy.nii.gz", "variance.nii.gz"} < set(contents(whole))
    written: list[Any] = []
    write = explaining.write_lesion

    def write_one(*lesion: Any) -> Any:
        if written:
            raise KeyboardInterrupt
        written.append(write(*lesion))
        return written[-1]

    with monkeypatch.context() as patch:
        patch.setattr(explaining, "write_lesion", write_one)
        assert run(*arguments, "--out", out) == 130
    assert run(*arguments, "--dry-run", "--out", out) == 0
    other = [*arguments[:-3], "--member-seed", "1", "--out", out]
    assert run(*other) == 2  # lesions of other members are kept
    assert run(*arguments, "--out", out) == 0
    ran = {"run.json"}
    assert {k: v for k, v in contents(out).items() if k not in ran} == {
        k: v for k, v in contents(whole).items() if k not in ran
    }
    rows = read_table(out / "instances.tsv")
    assert all(0 <= float(row["lsu"]) <= 1 and 0 < float(row["entropy"]) < 0.694 for row in rows)
    settings = json.loads((out / "run.json").read_text())["settings"]
    assert settings["uncertainty"]["member_noise_scale"] == "range"


def test_options_of_members_need_members(
    scan_options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("predict", *scan_options, *CANDIDATES, "--out", tmp_path / "out") == 2
    assert "--candidates is about members" in capsys.readouterr().err
