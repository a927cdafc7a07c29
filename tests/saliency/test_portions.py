"""Where items are few, noise samples fill the batches."""

from __future__ import annotations

import numpy as np
import pytest

from jaxsal.saliency.items import Items, WindowGroup
from jaxsal.saliency.portions import power_of_two_within, samples_at_once


def groups(*sizes):
    """One window's items each, so many."""
    return [WindowGroup((i,), Items(np.zeros(n), np.zeros((n, 1)))) for i, n in enumerate(sizes)]


@pytest.mark.parametrize(
    ("sizes", "samples", "count"),
    [
        ((1000,), 50, 1),  # the batches of 32 are full as it is
        ((32, 64), 50, 1),
        ((16,), 50, 2),
        ((4,), 64, 8),
        ((4,), 5, 4),  # the eight that fill a batch are not wanted
        ((1, 1, 1), 64, 32),
        ((1000, 1), 50, 1),  # the small lesion does not matter
        ((1,), 1, 1),
        ((2,), 33, 16),  # twice 32 would be more
    ],
)
def test_samples_fill_what_few_items_leave_of_a_batch(sizes, samples, count):
    assert samples_at_once(groups(*sizes), samples, width=32) == count


def test_windows_count_as_often_as_they_are_pulled_back_through():
    few, many = groups(2, 64)
    assert samples_at_once([few, many], 64, width=32) == 4
    assert samples_at_once([WindowGroup(tuple(range(27)), few.items), many], 64, width=32) == 16


def test_devices_share_samples_first():
    assert samples_at_once(groups(1), 16, width=32, mesh=(4, 1)) == 4
    assert samples_at_once(groups(32), 64, width=32, mesh=(1, 8)) == 8


@pytest.mark.parametrize("width", [1, 2])
def test_a_narrow_device_takes_few(width):
    assert samples_at_once(groups(1), 64, width) == width


@pytest.mark.parametrize(("number", "power"), [(0, 1), (1, 1), (2, 2), (3, 2), (31, 16), (32, 32)])
def test_powers_of_two(number, power):
    assert power_of_two_within(number) == power
