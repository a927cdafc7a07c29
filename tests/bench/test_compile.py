"""What compilers say of the programs, also for devices that are not here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax
import pytest

from bench.__main__ import main
from bench.patience import Patient
from bench.targets import TARGETS
from jaxsal.settings import PRECISIONS_ON

ONE = ("--derivatives", "local", "--programs", "pull_back")


def compiled(folder: Path, *words: str) -> dict[str, Any]:
    assert main(["compile", "--toy", "--out", str(folder), *words]) == 0
    (path,) = folder.glob("compile-*.json")
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def test_the_programs_are_compiled_and_the_plan_is_set_beside(tmp_path):
    found = compiled(tmp_path, "--programs", "forward", "pull_back")
    rows = {(row["derivative"], row["program"]): row for row in found["rows"]}
    assert {kind for kind, _ in rows} == {"local", "dense"}
    for row in rows.values():
        assert row["gflop"] > 0
        assert row["gbyte"] > 0
        assert row["compile_s"] > 0
    pull_back = rows["local", "pull_back"]
    ratio = pull_back["planned_mib"] / pull_back["temporary_mib"]
    assert pull_back["planned_per_compiled"] == pytest.approx(ratio)
    moved = 1000 * pull_back["gbyte"] / pull_back["batch"]
    assert pull_back["mbyte_per_gradient"] == pytest.approx(moved)
    per_gradient = {
        kind: row["gflop"] / row["batch"]
        for (kind, name), row in rows.items()
        if name == "pull_back"
    }
    assert per_gradient["local"] < per_gradient["dense"]
    assert "planned_mib" not in rows["dense", "forward"]


def test_the_batch_is_that_which_is_asked_for(tmp_path):
    (row,) = compiled(tmp_path, "--batch", "3", *ONE)["rows"]
    assert row["batch"] == 3
    with pytest.raises(SystemExit):
        main(["compile", "--toy", "--batch", "0"])


@pytest.mark.parametrize(("target", "package"), [("h100", "jax-cuda12-plugin"), ("v5e", "libtpu")])
def test_what_is_to_be_installed_is_named(target, package, tmp_path, monkeypatch):
    monkeypatch.setattr("bench.targets.find_spec", lambda module: None)
    with pytest.raises(SystemExit, match=rf"compiling for {target} needs .*pip install {package}"):
        main(["compile", "--toy", "--target", target, "--out", str(tmp_path)])


@pytest.mark.skipif(not TARGETS["h100"].is_installed, reason="needs JAX's CUDA plug-in")
def test_a_gpu_that_is_not_here_is_compiled_for(tmp_path):
    found = compiled(tmp_path, "--target", "h100", *ONE)
    (row,) = found["rows"]
    assert row["batch"] == 32
    assert row["escaped_convolutions"] == 0
    assert row["peak_ms"] > 0
    assert found["machine"]["device"] == "Compiled for h100, not run"


def test_peaks_are_told_with_their_source():
    for target in TARGETS.values():
        if target.platform != "cpu":
            assert target.source
            assert set(target.flops) == set(PRECISIONS_ON[target.platform])
            assert target.flops["bfloat16"] > 1e14


@pytest.mark.parametrize("question", ["compile", "paper_scan"])
def test_a_precision_that_the_target_lacks_is_refused_first(question, tmp_path, monkeypatch):
    monkeypatch.setattr("jax.stages.Lowered.compile", None)  # nothing is compiled
    words = [question, "--toy", "--target", "v5e", "--precision", "tf32", "--out", str(tmp_path)]
    with pytest.raises(SystemExit, match="v5e has no tf32: choose one of float32, bfloat16x3"):
        main(words)


@pytest.mark.thorough
def test_a_program_that_takes_too_long_is_given_up(tmp_path):
    (row,) = compiled(tmp_path, "--timeout", "0.01", *ONE)["rows"]
    assert row["failed"] == "not compiled within 0.01 s"
    assert "gflop" not in row


def test_a_process_is_begun_anew_after_one_that_was_given_up():
    with Patient(float, 60) as patient:
        assert patient("2.5") == 2.5
        with pytest.raises(EOFError):
            patient("no number")  # of which the process dies
        assert patient("3") == 3


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "soon"])
def test_a_timeout_is_a_number_of_seconds(seconds, capsys):
    with pytest.raises(SystemExit):
        main(["compile", "--toy", f"--timeout={seconds}"])
    assert "takes a positive number of seconds" in capsys.readouterr().err


@pytest.mark.thorough
def test_what_was_compiled_is_not_compiled_again(tmp_path, monkeypatch):
    words = ("--kept", str(tmp_path / "kept"), *ONE)
    first = compiled(tmp_path, *words)["rows"]
    monkeypatch.setattr("jax.stages.Lowered.compile", None)
    assert compiled(tmp_path, *words)["rows"] == first
    assert compiled(tmp_path, "--timeout", "0.1", *words)["rows"] == first  # not given up
    with pytest.raises(TypeError):
        compiled(tmp_path, "--batch", "3", *words)


def test_a_program_that_does_not_compile_says_why(tmp_path, monkeypatch):
    def fail(*arguments: object) -> None:
        raise jax.errors.JaxRuntimeError("no tile\nsizes")

    monkeypatch.setattr("jax.stages.Lowered.compile", fail)
    (row,) = compiled(tmp_path, *ONE)["rows"]
    assert row["failed"] == "no tile sizes"
    assert "gflop" not in row
