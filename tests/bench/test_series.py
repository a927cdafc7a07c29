"""A series of benchmarks goes on where one fails, says so at the end, and resumes."""

from __future__ import annotations

import json

import pytest

from bench import __main__ as bench
from bench.record import Result
from jaxsal.errors import InputError


@pytest.fixture
def three(monkeypatch):
    """Three questions, of which the second fails in a way that the test chooses."""
    asked = []
    failing = {}

    def run(question):
        def answer(options):
            asked.append((question, options.toy))
            if question in failing:
                raise failing[question]
            return Result(question, {}, [{"ms": 1.0}], faults=options.faults or [])

        return answer

    def add_options(parser):
        parser.add_argument("--faults", nargs="*")

    names = ("roofline", "networks", "scaling")
    for name in names:
        monkeypatch.setattr(f"bench.{name}.run", run(name))
        monkeypatch.setattr(f"bench.{name}.add_options", add_options)
    monkeypatch.setattr(bench, "QUESTIONS", names)
    return asked, failing


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (InputError("no room"), "FAILED networks: no room"),
        (SystemExit(2), "FAILED networks: exit status 2"),
        (ZeroDivisionError("by zero"), "FAILED networks: ZeroDivisionError: by zero"),
    ],
)
def test_all_go_on_where_one_fails(three, error, said, tmp_path, capsys):
    asked, failing = three
    failing["networks"] = error
    assert bench.main(["all", "--toy", "--out", str(tmp_path)]) == 1
    assert [name for name, _ in asked] == ["roofline", "networks", "scaling"]
    assert capsys.readouterr().err.splitlines()[-1] == said
    assert sorted(p.name.partition("-")[0] for p in tmp_path.glob("*.json")) == [
        *("roofline", "scaling")
    ]


def test_what_a_benchmark_finds_to_be_wrong_is_a_failure_too(three, tmp_path, capsys):
    arguments = ["--toy", "--out", str(tmp_path), "--faults", "maps differ"]
    assert bench.main(["scaling", *arguments]) == 1
    assert "FAILED scaling: maps differ" in capsys.readouterr().err
    assert bench.main(["all", *arguments]) == 1
    (path,) = tmp_path.glob("roofline-*.json")
    assert json.loads(path.read_text())["faults"] == ["maps differ"]


def test_all_succeed_and_pass_over_options_of_others(three, tmp_path):
    asked, _ = three
    assert bench.main(["all", "--toy", "--out", str(tmp_path), "--ronds", "3"]) == 0
    assert asked == [(name, True) for name in bench.QUESTIONS]


@pytest.mark.parametrize(
    ("current", "repeated"),
    [
        ({"commit": "a", "changed": False}, ["networks"]),
        ({"commit": "b", "changed": False}, ["roofline", "networks", "scaling"]),
        ({"commit": "a", "changed": True}, ["roofline", "networks", "scaling"]),
        ({}, ["roofline", "networks", "scaling"]),
    ],
)
def test_a_series_resumes_what_is_missing_of_its_commit(
    three, current, repeated, tmp_path, monkeypatch
):
    asked, _ = three
    for question in ("roofline", "scaling"):
        Result(question, {}, [], repository={"commit": "a", "changed": False}).write(tmp_path)
    monkeypatch.setattr("bench.series.commit_of", lambda: current)
    assert bench.main(["all", "--toy", "--resume", "--out", str(tmp_path)]) == 0
    assert [name for name, _ in asked] == repeated


def test_the_series_for_a_gpu_needs_one(three, capsys):
    asked, _ = three
    assert bench.main(["gpu"]) == 2
    assert "there is no GPU here" in capsys.readouterr().err
    assert asked == []


@pytest.mark.thorough
def test_the_series_for_a_gpu_runs_at_toy_size_on_a_cpu(tmp_path):
    assert bench.main(["gpu", "--toy", "--out", str(tmp_path)]) == 0
    assert {path.name.partition("-")[0] for path in tmp_path.glob("*.json")} == set(bench.GPU)


@pytest.mark.thorough
def test_one_command_answers_all_questions(tmp_path):
    assert bench.main(["all", "--toy", "--out", str(tmp_path)]) == 0
    answered = {path.name.partition("-")[0] for path in tmp_path.glob("*.json")}
    assert answered == set(bench.QUESTIONS)
