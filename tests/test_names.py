"""Names such as `jaxsal.box.Box`, in docstrings and READMEs, are names of something."""

from __future__ import annotations

import re
from importlib import import_module
from typing import Any

import pytest
from helpers.readme_blocks import ROOT, readmes

GROUPS = {"jaxsal.methods", "jaxsal.networks", "jaxsal.monai_networks"}  # of entry points
NAME = re.compile(r"`((?:jaxsal|jaxsal_converters)(?:\.\w+)+)(?:\(\))?`")
SOURCES = [
    path for part in ("jaxsal", "converters", "bench") for path in (ROOT / part).rglob("*.py")
]


def named() -> dict[str, str]:
    """Every such name, and a file in which it stands."""
    return {
        name: str(path.relative_to(ROOT))
        for path in [*SOURCES, *readmes()]
        for name in NAME.findall(path.read_text(encoding="utf-8"))
        if name not in GROUPS
    }


def exists(name: str) -> bool:
    """Whether there is such a module, or such an attribute or field of one."""
    parts = name.split(".")
    found: Any = import_module(parts[0])
    for number, part in enumerate(parts[1:], 2):
        if part in getattr(found, "__annotations__", ()):
            return True  # a field, whose own parts are not looked for
        if not hasattr(found, part):
            try:
                import_module(".".join(parts[:number]))
            except ModuleNotFoundError:
                return False
        found = getattr(found, part)
    return True


@pytest.mark.parametrize(
    "name", ["jaxsal.box.Box", "jaxsal.cohort", "jaxsal.Model", "jaxsal.box.Box.start"]
)
def test_names_are_found(name: str) -> None:
    assert exists(name)


@pytest.mark.parametrize("name", ["jaxsal.nowhere", "jaxsal.box.Bax", "jaxsal.box.Box.begin"])
def test_other_names_are_not(name: str) -> None:
    assert not exists(name)


def test_names_in_docstrings_and_readmes_exist() -> None:
    names = named()
    assert len(names) > 50
    assert {name: file for name, file in names.items() if not exists(name)} == {}
