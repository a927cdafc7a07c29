"""Which lesions an experiment takes by their volume."""

from __future__ import annotations

import math

import pytest

from jaxsal.experiments.choice import of_volume
from jaxsal.lesions import Instance, Kind


def lesion(volume: float, kind: Kind = "TP") -> Instance:
    box = (slice(0, 1), slice(0, 1), slice(0, 1))
    return Instance(1, kind, 1, volume, (0, 0, 0), box)


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
