"""Results of a tiny cohort whose references hold every other lesion that the network finds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from helpers.cohorts import PREDICTION, make_cohort, run
from helpers.tiny import CHANNELS, MISSED, save

from jaxsal.devices import computing_on
from jaxsal.inputs.entries import Entry
from jaxsal.inputs.images import load_scan
from jaxsal.model import Model
from jaxsal.scan.prediction import find_lesions

SCANS = 4  # with six true lesions that are found, and seven false ones


class Judged(NamedTuple):
    """A cohort with references, and the folder of its results."""

    entries: list[Entry]
    out: Path


@pytest.fixture(scope="session")
def judged(tiny_model: Model, tmp_path_factory: pytest.TempPathFactory) -> Judged:
    folder = tmp_path_factory.mktemp("judged")
    entries = make_cohort(folder, SCANS)
    with computing_on(None):
        for index, entry in enumerate(entries):
            labels = find_lesions(
                tiny_model, load_scan(entry.scan, CHANNELS, None), PREDICTION
            ).labels
            true = (labels > 0) & (labels % 2 == index % 2)
            true[MISSED] |= labels[MISSED] == 0
            path = save(folder / f"true{index}.nii.gz", true.astype(np.uint8))
            entries[index] = replace(entry, scan=replace(entry.scan, reference=path))
        run(tiny_model, entries, folder / "results")
    return Judged(entries, folder / "results")
