"""Results of a tiny cohort with true, false and missed lesions."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest
from helpers.cohorts import make_cohort, run, with_references
from helpers.optimised import optimised

from jaxsal.devices import computing_on
from jaxsal.inputs.entries import Entry
from jaxsal.model import Model


class Judged(NamedTuple):
    """A cohort with references, and the folder of its results."""

    entries: list[Entry]
    out: Path


@pytest.fixture(scope="module")
def judged(tiny_model: Model, one_device: None, tmp_path_factory: pytest.TempPathFactory) -> Judged:
    folder = tmp_path_factory.mktemp("judged")
    with optimised(), computing_on(None):  # as in cohort, whose programs are shared
        entries = with_references(tiny_model, make_cohort(folder), folder)
        run(tiny_model, entries, folder / "results")
    return Judged(entries, folder / "results")
