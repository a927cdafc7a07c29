"""The notebooks, files of percent cells in the rooms that they are about, run from top to bottom.

The thorough tests run them at toy size: other parameters take the place of those in the cell with
the tag "parameters", as Papermill does with notebooks.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from helpers.readme_blocks import ROOT

NOTEBOOKS: dict[str, dict[str, Any]] = {
    "jaxsal/demo/first_maps_notebook.py": {
        **{"VOXEL_SIZE": 4.0, "LESIONS": 2, "WINDOW": 16, "SAMPLES": 1, "LARGEST": 8}
    },
    "converters/own_network_notebook.py": {"SIZE": 16, "STEPS": 3, "SAMPLES": 1},
    "jaxsal/cohort/cohort_notebook.py": {
        **{"PATIENTS": 1, "LESIONS": 4, "VOXEL_SIZE": 4.0, "WINDOW": 16, "SAMPLES": 1},
        **{"SMALLEST": 100.0},
    },
}
LINKED = {
    "jaxsal/demo/first_maps_notebook.py": "jaxsal/scan/README.md",
    "converters/own_network_notebook.py": "converters/README.md",
    "jaxsal/cohort/cohort_notebook.py": "jaxsal/cohort/README.md",
}
PARAMETERS = re.compile(r'(?<=# %% tags=\["parameters"\]\n)(?:.+\n)+')


def test_every_notebook_is_run() -> None:
    found = [*ROOT.glob("jaxsal/**/*_notebook.py"), *ROOT.glob("converters/*_notebook.py")]
    assert {path.relative_to(ROOT).as_posix() for path in found} == set(NOTEBOOKS)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_rooms_readme_links_its_notebook(name: str) -> None:
    readme = ROOT / LINKED[name]
    links = re.findall(r"\]\(([^)]*_notebook\.py)\)", readme.read_text(encoding="utf-8"))
    assert (ROOT / name) in [(readme.parent / link).resolve() for link in links]


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_begins_with_what_it_is_about_and_names_its_parameters(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    assert text.startswith('# %% [markdown]\n"""')
    (cell,) = PARAMETERS.findall(text)
    assert set(re.findall(r"^([A-Z_]+) = ", cell, re.MULTILINE)) == set(NOTEBOOKS[name])


@pytest.mark.thorough
@pytest.mark.filterwarnings("always")
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = ROOT / name
    toy = "".join(f"{key} = {value!r}\n" for key, value in NOTEBOOKS[name].items())
    text = PARAMETERS.sub(toy, path.read_text(encoding="utf-8"))
    exec(compile(text, str(path), "exec"), {"__name__": "__main__"})
    assert any(tmp_path.rglob("*.png"))  # pictures were the last that it made
