"""What was kept of finished lesions is believed only as far as it is just that of these lesions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from jaxsal.saliency.methods.smoothgrad import SmoothGradSettings
from jaxsal.scan.explanations import Explanation
from jaxsal.scan.methods import appearance
from jaxsal.scan.portions import LesionResults, PortionResults
from jaxsal.settings import ExplainSettings

Rows = list[Any]
SETTINGS = ExplainSettings(SmoothGradSettings(samples=2, standard_error=True))


@pytest.fixture
def lesions() -> PortionResults:
    """Two lesions of a portion."""
    shown = appearance(SETTINGS, ["flair"])
    about = {label: Explanation(f"lesion-{label}", "", {"label": label}, 1) for label in (4, 7)}
    return PortionResults(
        {label: LesionResults(each, shown, SETTINGS) for label, each in about.items()}
    )


@pytest.fixture
def rows(lesions: PortionResults) -> Rows:
    """What a run keeps of them, the second one first."""
    statistics = dict.fromkeys(lesions[4].shown.table_columns(), 0.5)
    return [lesions[label].row(statistics) for label in (7, 4)]


def test_a_lesion_has_maps_their_standard_errors_and_a_picture(lesions: PortionResults) -> None:
    map_ = "lesion-4_flair_smoothgrad-max"
    assert lesions[4].files == [
        *(f"maps/{map_}.nii.gz", f"maps/{map_}_se.nii.gz", "pictures/lesion-4.png")
    ]


def test_rows_of_the_portions_lesions_are_believed_in_their_order(
    lesions: PortionResults, rows: Rows
) -> None:
    assert lesions.kept_rows(rows) == rows
    assert [row["label"] for row in rows] == [7, 4]


CHANGES: dict[str, Callable[[Rows], object]] = {
    "no row": lambda rows: rows.clear(),
    "a row too few": lambda rows: rows.pop(),
    "a row that is none": lambda rows: rows.__setitem__(0, 1),
    "another lesion's": lambda rows: rows[0].update(label=2),
    "one lesion's twice": lambda rows: rows.__setitem__(0, rows[1]),
    "one lesion's once more": lambda rows: rows.append(rows[1]),
    "a column missing": lambda rows: rows[0].pop("flair_max"),
    "a column too many": lambda rows: rows[0].update(other=1),
    "a text for a number": lambda rows: rows[0].update(flair_max="1"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_other_rows_are_not(
    change: Callable[[Rows], object], lesions: PortionResults, rows: Rows
) -> None:
    change(rows)
    assert lesions.kept_rows(rows) is None
