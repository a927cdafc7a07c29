"""Fixtures of the tests of cohorts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.cohorts import make_cohort, results, run
from helpers.optimised import optimised

from jaxsal.devices import computing_on
from jaxsal.inputs.entries import Entry
from jaxsal.model import Model


@pytest.fixture(autouse=True, scope="module")
def _on_the_default_device() -> Iterator[None]:
    """As the commands do; compiled programs are shared with their tests only if this is alike."""
    with optimised(), computing_on(None):
        yield


@pytest.fixture(scope="session")
def entries(tmp_path_factory: pytest.TempPathFactory) -> list[Entry]:
    """A tiny cohort; its files are not to be changed."""
    return make_cohort(tmp_path_factory.mktemp("cohort"))


@pytest.fixture(scope="session")
def finished(
    entries: list[Entry], tiny_model: Model, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The folder of a run that nothing disturbed; not to be changed."""
    out = tmp_path_factory.mktemp("out") / "finished"
    with optimised(), computing_on(None):
        assert {result.status for result in run(tiny_model, entries, out)} == {"finished"}
    return out


@pytest.fixture(scope="session")
def expected(finished: Path) -> dict[str, Any]:
    """Its results, which every run of the same cohort must come to."""
    return results(finished)
