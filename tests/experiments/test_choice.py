"""Which lesions an experiment takes by their volume."""

from __future__ import annotations

import math
import re

import pytest

from jaxsal.box import Box
from jaxsal.experiments.choice import another_range, none_of_volume, of_volume
from jaxsal.lesions import Instance, Kind


def lesion(volume: float, kind: Kind = "TP") -> Instance:
    return Instance(1, kind, 1, volume, (0, 0, 0), Box((0, 0, 0), (1, 1, 1)))


@pytest.mark.parametrize(
    ("volume", "taken"),
    [
        ((90, 120), [90, 100, 120]),
        ((90, math.inf), [90, 100, 120, 5e6]),
        ((90, 1e9), [90, 100, 120, 5e6]),
        ((0, 90), [1, 89.9, 90]),
    ],
)
def test_both_ends_are_taken_however_wide_the_range(
    volume: tuple[float, float], taken: list[float]
) -> None:
    found = [lesion(v) for v in (1, 89.9, 90, 100, 120, 5e6)]
    assert [each.volume_mm3 for each in of_volume(found, volume)] == taken


def test_a_rounded_volume_is_taken() -> None:
    found = [lesion(v) for v in (90 * (1 - 1e-6), 120 * (1 + 1e-6))]
    assert of_volume(found, (90, 120)) == found


def test_only_what_was_found_is_taken() -> None:
    assert not of_volume([lesion(100, "FN"), lesion(100, "FP")], (90, 120))


@pytest.mark.parametrize(
    "volumes", [[64.0], [0.4], [64.0, 128.0], [12.5, 500.2, 3.1], [90.0, 1234567.8]]
)
def test_the_range_that_is_proposed_takes_all(volumes: list[float]) -> None:
    found = [lesion(volume) for volume in volumes]
    for text in (none_of_volume(volumes, (2e6, 3e6)), another_range(volumes, (2e6, 3e6))):
        low, high = map(float, re.search(r"--volume (\S+):(\S+) ", text).groups())  # type: ignore[union-attr]
        assert of_volume(found, (low, high)) == found


def test_no_range_is_proposed_where_the_wanted_one_takes_all() -> None:
    assert another_range([90.0, 120.0], (90, 120)) == ""
    assert "--volume" not in another_range([], (90, 120))
