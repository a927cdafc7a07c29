"""What is computed at once follows from a budget and the bytes of each step."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest

from jaxsal.saliency.memory_plan import (
    MAPS_SHARE,
    Demand,
    MemoryPlan,
    fit,
    on_devices,
    power_of_two_within,
    samples_at_once,
    together,
)

DEMAND = Demand(
    fixed=100,
    linearise=30,
    linearised=20,
    window=5,
    item=10,
    frame=7,
    maps=(40, 60, 50),
    windows=4,
    mixes=True,
)


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
    assert samples_at_once(sizes, samples, width=32) == count


def test_devices_share_samples_first():
    assert samples_at_once([1], 16, width=32, mesh=(4, 1)) == 4
    assert samples_at_once([32], 64, width=32, mesh=(1, 8)) == 8


@pytest.mark.parametrize("width", [1, 2])
def test_a_narrow_device_takes_few(width):
    assert samples_at_once([1], 64, width) == width


@pytest.mark.parametrize(("number", "power"), [(0, 1), (1, 1), (2, 2), (3, 2), (31, 16), (32, 32)])
def test_powers_of_two(number, power):
    assert power_of_two_within(number) == power


def test_the_least_is_what_one_lesion_window_and_item_take():
    assert DEMAND.least == 100 + 20 + 30 + 5 + 2 * 7 + 60
    assert fit(DEMAND, DEMAND.least - 1, width=8) is None
    plan = fit(DEMAND, DEMAND.least, width=8)
    assert (plan.items, plan.frames, plan.slots, plan.windows) == (1, 1, 1, 1)
    assert not plan.keeps_enough
    assert plan.waves == ((0,), (1,), (2,))


def test_what_fits_is_within_the_budget_and_grows_with_it():
    budgets = range(DEMAND.least, 20000, 7)
    plans = [fit(DEMAND, budget, width=8) for budget in budgets]
    for budget, plan in zip(budgets, plans, strict=True):
        maps = max(sum(DEMAND.maps[i] for i in wave) for wave in plan.waves)
        steps = max(DEMAND.linearise + plan.windows * DEMAND.window, plan.items * DEMAND.item)
        kept = plan.slots * DEMAND.linearised + (plan.frames + 1) * DEMAND.frame
        assert 100 + maps + kept + steps <= budget
        assert plan.items <= plan.frames * min(plan.slots, DEMAND.windows)
    assert plans[-1].waves == ((0, 1, 2),)
    assert (plans[-1].items, plans[-1].slots, plans[-1].keeps_enough) == (8, 128, True)
    assert plans[-1].frames == 512


def test_lesions_of_equal_maps_have_room_for_a_power_of_two():
    five = replace(DEMAND, maps=(40,) * 5)
    enough = 8 * 40 / MAPS_SHARE  # bytes
    assert fit(five, math.ceil(enough), width=1).waves == (tuple(range(5)),)
    assert fit(five, math.floor(enough) - 1, width=1).waves == (tuple(range(4)), (4,))


def test_windows_that_cannot_be_mixed_are_kept_one_at_a_time():
    plan = fit(replace(DEMAND, mixes=False), 20000, width=8)
    assert (plan.slots, plan.windows, plan.keeps_enough) == (1, 1, True)


@pytest.mark.parametrize("distinct", [1, 4])
def test_no_more_windows_are_kept_than_there_are(distinct):
    assert fit(DEMAND, 10**6, 8).slots > 4
    assert fit(replace(DEMAND, distinct=distinct), 10**6, 8).slots == distinct


def test_a_given_number_of_items_is_taken_and_a_derivative_may_take_no_memory():
    assert fit(DEMAND, 5000, width=8, items=3).items == 3
    free = replace(DEMAND, linearise=0, linearised=0, item=0)
    assert fit(free, free.least + 100, width=8).items == 8


def test_a_chunk_fills_the_batch_that_is_asked_for_or_the_batch_is_smaller():
    large = replace(DEMAND, frame=2**23, mixes=False)
    plan = fit(large, 2**40, width=8)
    assert (plan.items, plan.frames) == (8, 16)
    plan = fit(large, 2**40, width=8, items=32)
    assert (plan.items, plan.frames) == (32, 32)
    plan = fit(large, 2**28, width=8, items=32)
    assert plan.items == plan.frames == 4


def test_half_as_much_at_once_until_nothing_is_left_to_halve():
    plan = MemoryPlan(4, 2, 2, 2, ((0,),), keeps_enough=True)
    found = []
    while (plan := plan.halved()) is not None:
        found.append((plan.items, plan.slots, plan.frames, plan.windows))
    assert found == [(2, 2, 2, 2), (1, 2, 2, 2), (1, 1, 2, 1), (1, 1, 1, 1)]


def test_lesions_together_keep_their_order():
    sizes = {3: 5, 1: 5, 2: 20, 7: 4}
    assert list(together(sizes, 10)) == [(3, 1), (2,), (7,)]
    assert list(together(sizes, None)) == [(3, 1, 2, 7)]
    assert list(together({}, 10)) == []


@pytest.mark.parametrize(
    ("platform", "least", "good", "found"),
    [
        ("cpu", 25, 0, (4, 25)),  # the budget is shared
        ("cpu", 26, 0, (2, 50)),
        ("cpu", 25, 50, (2, 50)),  # more memory for each is better
        ("cpu", 25, 101, (1, 100)),  # a single device has to do
        ("cpu", 101, 0, None),
        ("gpu", 100, 0, (4, 100)),  # each has its own
        ("gpu", 101, 0, None),
    ],
)
def test_devices_are_left_out_until_the_memory_suffices(platform, least, good, found):
    devices = (SimpleNamespace(platform=platform),) * 4

    def attempt(devices, budget):
        return (len(devices), budget) if budget >= least else None

    assert on_devices(devices, 100, attempt, lambda found: found[1] >= good) == found
