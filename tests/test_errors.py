"""Warnings are about a line of the user's, so they point at it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import jaxsal


def test_a_warning_points_at_the_line_that_called_jaxsal(tmp_path: Path) -> None:
    (tmp_path / "flair.nii.gz").touch()
    table = tmp_path / "scans.tsv"
    table.write_text("scan\tflair\trefrence\na\tflair.nii.gz\t\n")
    with pytest.warns(UserWarning, match="did you mean 'reference'") as caught:
        jaxsal.read_cohort(table, ("flair",))
    assert caught[0].filename == __file__


def test_a_warning_from_within_a_generator_does_so_too() -> None:
    labels = np.zeros((4, 4, 4), np.int32)
    labels[1, 1, 1] = 1
    image = np.zeros((4, 4, 4, 1), np.float32)
    field = jaxsal.whole_volume(lambda batch: 0 * batch)
    stream = jaxsal.smoothgrad_stream(field, image, labels, settings=None)
    with pytest.warns(UserWarning, match="the map of lesion 1 is zero everywhere") as caught:
        list(stream)
    assert caught[0].filename == __file__
