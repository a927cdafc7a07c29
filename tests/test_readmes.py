"""Every code block of every README is run, or at least checked; none may rot."""

from __future__ import annotations

import re
import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers.readme_blocks import EFFORTS, LANGUAGES, ROOT, blocks_of, readmes
from helpers.readme_diffs import Copy
from helpers.readme_shell import Shell
from helpers.readme_workspace import make_workspace
from test_architecture import FLOORS

pytestmark = pytest.mark.usefixtures("one_device")

READMES = {str(path.relative_to(ROOT)): path for path in readmes()}
each_readme = pytest.mark.parametrize("name", READMES)


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that blocks find; not to be changed."""
    return make_workspace(tmp_path_factory.mktemp("readmes") / "workspace")


@pytest.fixture
def workspace(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of these files, which is the current folder."""
    folder = shutil.copytree(prepared, tmp_path / "workspace")
    monkeypatch.chdir(folder)
    yield folder
    shutil.rmtree(folder)


@each_readme
def test_blocks_are_of_known_kinds(name: str) -> None:
    for block in blocks_of(READMES[name]):
        assert block.language in LANGUAGES, f"{block.place}: unknown language {block.language!r}"
        assert block.effort in EFFORTS, f"{block.place}: unknown effort {block.effort!r}"


@pytest.mark.parametrize("name", [name for name, path in READMES.items() if blocks_of(path)])
def test_blocks_work(name: str, workspace: Path) -> None:
    run(name, workspace, thorough=False)


@pytest.mark.thorough
@pytest.mark.parametrize(
    "name",
    [n for n, path in READMES.items() if any(b.effort == "slow" for b in blocks_of(path))],
)
def test_slow_blocks_work(name: str, workspace: Path) -> None:
    run(name, workspace, thorough=True)


def run(name: str, workspace: Path, *, thorough: bool) -> None:
    """Tries all blocks of a README in their order, in one folder and with common variables.

    Diffs change a copy of the package; what comes after them runs in the copy.
    """
    shell, names = Shell(workspace), dict[str, Any]()
    copy: Copy | None = None
    steps: list[tuple[str, Any]] = []  # in the copy
    for block in blocks_of(READMES[name]):
        really = block.effort == "" or (thorough and block.effort == "slow")
        if block.language == "diff":
            copy = copy or Copy(workspace.parent / "package")
            copy.apply(block)
        elif block.language == "sh" and copy:
            kind = "jaxsal" if really else "check"
            steps += [(kind, words) for words in shell.jaxsal_commands(block)]
        elif block.language == "python" and copy:
            steps.append(("python", block.text))
        elif block.language == "sh":
            shell.run(block, really=really)
        elif block.language == "python":
            code = compile(block.code, str(block.path), "exec")
            if really:
                exec(code, names)
        elif block.language == "tsv":
            (workspace / "scans.tsv").write_text(block.text, encoding="utf-8")
    if copy:
        copy.run(steps)


def test_most_blocks_run() -> None:
    """Those that are only checked stay few."""
    blocks = [block for path in READMES.values() for block in blocks_of(path)]
    code = [block for block in blocks if block.language in ("sh", "python")]
    checked = [block.place for block in code if block.effort == "check"]
    assert len(checked) <= len(code) / 4, checked


@each_readme
def test_links_lead_somewhere(name: str) -> None:
    path = READMES[name]
    text = path.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not re.match(r"https?:", target):
            file, _, anchor = target.partition("#")
            linked = (path.parent / file) if file else path
            assert linked.exists(), f"{name}: {target}"
            assert not anchor or anchor in anchors(linked), f"{name}: {target}"


def anchors(path: Path) -> set[str]:
    """Of a README's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


@each_readme
def test_files_that_are_named_exist(name: str) -> None:
    """Paths such as `jaxsal/saliency/aggregate.py`, from the root or from the README's folder."""
    path = READMES[name]
    for file in re.findall(r"`([\w/.+-]+\.(?:py|toml|jinja|css|js|cff))`", path.read_text("utf-8")):
        if "/" in file:
            assert (ROOT / file).exists() or (path.parent / file).exists(), f"{name}: {file}"


def test_the_door_is_short() -> None:
    assert len(READMES["README.md"].read_text(encoding="utf-8").split()) <= 1200


def test_all_equations_have_a_file() -> None:
    text = READMES["README.md"].read_text(encoding="utf-8")
    rows = re.findall(r"^\| Eq\. (\d+) \|(.+)\|$", text, re.MULTILINE)
    assert [int(number) for number, _ in rows] == list(range(1, 11))
    for number, row in rows:
        files = re.findall(r"`([\w/]+\.py)`", row)
        assert files, number
        for file in files:
            source = (ROOT / file).read_text(encoding="utf-8")
            assert int(number) in equations_named(source), (number, file)


def equations_named(source: str) -> set[int]:
    """Numbers behind "Eq. 3", "Eqs. 1, 2", "Eqs. 5 and 9" and "Eqs. 4-10"."""
    found: set[int] = set()
    for listed in re.findall(r"Eqs?\. (\d+(?:(?:, | and |-)\d+)*)", source):
        for part in re.split(", | and ", listed):
            first, _, last = part.partition("-")
            found |= set(range(int(first), int(last or first) + 1))
    return found


def test_the_citation_is_valid_and_that_of_the_door() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    from jaxsal import __version__

    assert citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= set(citation)
    assert citation["version"] == __version__
    assert citation["license"] == project["license"]
    assert [one["name"] for one in citation["authors"]] == [a["name"] for a in project["authors"]]
    (paper,) = citation["references"]
    (entry,) = [b.text for b in blocks_of(READMES["README.md"]) if b.language == "bibtex"]
    fields = dict(re.findall(r"(\w+) *= \{(.+)\}", entry))
    assert fields["title"] == paper["title"]
    assert fields["doi"] == paper["doi"]
    assert fields["year"] == str(paper["year"])
    people = [f"{one['family-names']}, {one['given-names']}" for one in paper["authors"]]
    assert fields["author"].split(" and ") == people


def test_the_tested_versions_are_stated() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    stated = [c for c in project["classifiers"] if re.search(r":: 3\.\d+$", c)]
    lowest = project["requires-python"].removeprefix(">=")
    assert stated[0].endswith(lowest)


def test_the_layers_are_those_that_the_architecture_has() -> None:
    (drawing, *_) = [b.text for b in blocks_of(READMES["jaxsal/README.md"]) if b.language == "text"]
    drawn = [line.split("  ")[0] for line in drawing.splitlines()]
    assert drawn == [" ".join(floor) for floor in reversed(FLOORS) if floor != ["__main__"]]
