"""Synthetic patients as a cohort that every command takes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from jaxsal.demo.cohort import write_cohort
from jaxsal.demo.phantom import field_of_view, make_phantom
from jaxsal.errors import InputError
from jaxsal.inputs.sources import has_subjects, read_cohort
from jaxsal.volumes import read_volume

pytestmark = pytest.mark.usefixtures("one_device")

SHAPE, SPACING = field_of_view(4.0), 4.0


def test_the_table_lists_patients_as_cohorts_are_read(tmp_path: Path) -> None:
    table = write_cohort(tmp_path, 2, lesions=3, seed=5, shape=SHAPE, spacing=SPACING)
    first, second = read_cohort(table, ("flair", "t1"))
    assert [first.id, second.id] == ["phantom00005", "phantom00006"]
    assert [each.entities for each in (first, second)] == [
        {"subject": s.id} for s in (first, second)
    ]
    assert has_subjects(table)
    expected = make_phantom(6, SHAPE, SPACING, 3)
    assert second.scan.reference is not None
    np.testing.assert_array_equal(read_volume(second.scan.images[1]).data, expected.t1)
    np.testing.assert_array_equal(read_volume(second.scan.reference).data, expected.lesions)


def test_somebodys_files_stay(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"holds files, such as notes\.txt"):
        write_cohort(tmp_path, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("spacing", [0.5, 5.0, float("nan")])
def test_a_voxel_size_out_of_range_is_refused(spacing: float) -> None:
    with pytest.raises(InputError, match="from 1 to 4 mm"):
        field_of_view(spacing)


@pytest.mark.parametrize("spacing", [1.0, 1.5, 4.0])
def test_the_field_of_view_holds_the_head(spacing: float) -> None:
    assert np.all(np.multiply(field_of_view(spacing), spacing) >= (160, 190, 160))
