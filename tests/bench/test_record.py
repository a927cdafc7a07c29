"""Results say with what they were measured, and those that do not are shown all the same."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from bench import readme
from bench.origin import commit_of
from bench.record import RESULTS, Result, describe_machine, read_results, short_commit


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=n", "-c", "user.email=e@e", "-c", "commit.gpgsign=false"]
    done = subprocess.run(
        ["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    if shutil.which("git") is None:
        pytest.skip("needs Git")
    (tmp_path / "bench" / "results").mkdir(parents=True)
    for name in ("code.py", "README.md", "bench/results/old.json"):
        (tmp_path / name).write_text("1")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "first")
    return tmp_path


def test_the_commit_is_recorded_and_whether_code_differs_from_it(repository):
    commit = git(repository, "rev-parse", "HEAD")
    (repository / "bench/results/old.json").write_text("a benchmark writes it")
    (repository / "README.md").write_text("so is this")
    assert commit_of(repository) == {"commit": commit, "changed": False}
    (repository / "code.py").write_text("2")
    assert commit_of(repository) == {"commit": commit, "changed": True}


def test_outside_of_a_repository_no_commit_is_recorded(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert commit_of(tmp_path) == {}
    monkeypatch.setenv("PATH", str(tmp_path))  # no Git at all
    assert commit_of(tmp_path) == {}


def test_a_result_says_with_what_it_was_measured(tmp_path, monkeypatch):
    monkeypatch.setenv("JAX_SOME_OPTION", "1")
    monkeypatch.setenv("JAX_SOME_DIR", "/home")
    monkeypatch.setattr("bench.record.accelerator", lambda: {"driver": "570.1", "cudnn": "9.10.2"})
    found = json.loads(Result("peers", {}, [{"ms": 1.0}]).write(tmp_path).read_text())
    assert {"jax", "jaxlib", "flax", "numpy", "torch", "python"} <= set(found["versions"])
    assert found["versions"]["driver"] == "570.1"
    assert found["versions"]["cudnn"] == "9.10.2"
    assert found["environment"]["JAX_SOME_OPTION"] == "1"
    assert "XLA_FLAGS" in found["environment"]  # as the tests set it
    assert "JAX_SOME_DIR" not in found["environment"]
    assert found["repository"] == commit_of()
    assert {"cpu", "cores", "system", "device", "platform", "devices"} <= set(found["machine"])


def page_result(**fields):
    """A result of which nothing is drawn."""
    return Result("cohort_page", {}, [{"lesions": 3}], **fields)


def test_the_table_shows_commit_versions_and_machine(tmp_path, monkeypatch):
    commit = "0123456789abcdef"
    monkeypatch.setattr("bench.record.accelerator", lambda: {"driver": "570.1", "cudnn": "9.10.2"})
    page_result(repository={"commit": commit, "changed": True}).write(tmp_path)
    page = tmp_path / "README.md"
    page.write_text(f"{readme.BEGIN}\n{readme.END}\n")
    readme.redraw(tmp_path, page)
    (line,) = (
        row for row in page.read_text().splitlines() if row.startswith("| all of **cohort_page")
    )
    assert "0123456789 (code changed)" in line
    assert "driver 570.1, cudnn 9.10.2" in line
    assert describe_machine()["cpu"] in line


def test_one_core_is_no_plural(tmp_path):
    machine = describe_machine() | {"platform": "cpu", "cpu": "Some CPU", "cores": 1}
    path = page_result(machine=machine).write(tmp_path)
    assert path.name == "cohort_page-some-cpu-1-core.json"
    page = tmp_path / "README.md"
    page.write_text(f"{readme.BEGIN}\n{readme.END}\n")
    readme.redraw(tmp_path, page)
    assert "### Some CPU, 1 core, " in page.read_text()


def test_results_of_before_the_commit_was_recorded_are_shown(tmp_path):
    path = page_result().write(tmp_path)
    found = json.loads(path.read_text())
    for later in ("repository", "environment", "faults"):
        del found[later]
    del found["machine"]["system"]
    path.write_text(json.dumps(found))
    assert short_commit(found) == "not recorded"
    page = tmp_path / "README.md"
    page.write_text(f"{readme.BEGIN}\n{readme.END}\n")
    readme.redraw(tmp_path, page)
    assert "| not recorded |" in page.read_text()


def test_the_page_has_every_result_of_the_repository():
    text = readme.README.read_text(encoding="utf-8")
    assert read_results(RESULTS)
    for path in RESULTS.glob("*.json"):
        assert f"results/{path.name})" in text
