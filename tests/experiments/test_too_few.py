"""What is too few for a median is left out of summaries, and said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from jaxsal.experiments import stability
from jaxsal.experiments.catalogue import experiment
from jaxsal.experiments.statistics import few_at_most, median_of_enough, too_few
from jaxsal.experiments.study import Study
from jaxsal.inputs.entries import Entry, Scan
from jaxsal.model import Model
from jaxsal.progress import Silence

Rows = list[dict[str, Any]]
FIGURES = ("relative_l2", "correlation", "peak_spread", "peak_error")


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        ([4, 4], "4 lesions: medians need 5, and are left out"),
        ([1], "1 lesion: medians need 5, and are left out"),
        ([2, 4], "2 to 4 lesions: medians need 5, and are left out"),
        (
            [2, 3, 5],
            "2 of 3 rows of the summary have 2 to 3 lesions: medians need 5, and are left out",
        ),
        ([5, 70], ""),
        ([], ""),
    ],
)
def test_numbers_that_are_too_few_are_told(numbers: list[int], said: str) -> None:
    assert too_few(numbers) == said


def test_pairs_are_told_as_such() -> None:
    assert too_few([2], "pair").startswith("2 pairs: ")


def test_what_will_be_too_few_is_told_beforehand() -> None:
    told = "2 lesions of each scan at most, 2 scans: medians need 5, and will be left out"
    assert few_at_most(2, 2) == told
    assert few_at_most(1, 1).startswith("1 lesion of each scan at most, 1 scan:")
    assert not few_at_most(3, 2)
    assert not few_at_most(None, 1)


def test_a_median_is_of_five_or_more() -> None:
    assert median_of_enough([1.0, 2, 3, 4]) is None
    assert median_of_enough([1.0, 2, 3, 4, 9]) == 3


class AskedError(Exception):
    """Scans are begun with."""


class Lines(Silence):
    """A monitor that keeps the lines that stay, up to the first stage."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, line: str) -> None:
        self.said.append(line)

    def stage(self, name: str) -> None:
        raise AskedError


@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("faithfulness", "most"),
        ("stability", "lesions"),
        ("randomisation", "lesions"),
        ("adjacency", "lesions"),
    ],
)
@pytest.mark.parametrize(("most", "count"), [(4, 1), (5, 0)])
def test_too_few_lesions_are_told_before_anything_is_computed(
    name: str, option: str, most: int, count: int, tiny_model: Model, tmp_path: Path
) -> None:
    lines = Lines()
    entries = [Entry("a", Scan(()), {"subject": "a"})]
    study = Study(tiny_model, entries, tmp_path, monitor=lines)
    asked = experiment(name)
    with pytest.raises(AskedError):
        asked.ask(study, asked.settings(**{option: most}))
    assert len(lines.said) == count
    assert all("will be left out" in line for line in lines.said)


def repeated(lesions: int) -> Rows:
    """Rows of `stability`."""
    return [
        {"scan": "a", "subject": "a", "label": label, "aggregate": aggregate, "channel": "t1"}
        | {**dict.fromkeys(FIGURES, 0.1 * label), "images": images, "images_needed": factor * label}
        for label in range(1, lesions + 1)
        for aggregate, factor in (("max", 3), ("mean", 1))
        for images in (1, 2)
    ]


@pytest.mark.parametrize(("lesions", "expected"), [(4, None), (5, 6)])
def test_aggregates_are_compared_where_there_are_medians(
    lesions: int, expected: float | None
) -> None:
    (row,) = (r for r in stability.summary_of(repeated(lesions)) if "difference" in r)
    assert (row["n"], row["difference"]) == (lesions, expected)
