"""The plan of the devices' work: nothing is lost, nothing is needed before it is there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxsal.saliency.books import PullBack
from jaxsal.saliency.schedule import (
    Limits,
    Linearise,
    Pairs,
    schedule,
)


def random_pairs(seed, items, windows, length):
    """Items that one or several neighbouring windows reach, of up to ``length`` points each."""
    random = np.random.default_rng(seed)
    counts = np.minimum(random.integers(1, 5, items), windows)
    firsts = np.sort(random.integers(0, windows - counts + 1))
    rows = np.repeat(np.arange(items), counts)
    reached = np.concatenate([f + np.arange(n) for f, n in zip(firsts, counts, strict=True)])
    points = random.integers(0, 9, (len(rows), length, 3))
    weights = random.uniform(1, 2, (len(rows), length))
    weights[:, 1:] *= random.random((len(rows), length - 1)) < 0.7  # the rest is none
    return Pairs(
        items=rows,
        windows=reached,
        edges=random.random((len(rows), 3)) < 0.3,
        at=random.integers(0, 4, (len(rows), 3)),
        length=length,
        points=lambda chosen: (points[chosen], weights[chosen]),
        groups=random.integers(0, 2, items),
        lesions=random.integers(0, 3, items),
        corners=random.integers(0, 6, (items, 3)),
    )


class Replay:
    """A device that follows a schedule and notes what it does."""

    def __init__(self, pairs, limits, device):
        self.pairs, self.limits, self.device = pairs, limits, device
        self.held = {}  # window by slot
        self.linearised = []
        self.frames = {}  # what was added, by frame
        self.taken = []  # (group, lesion, corner, what was added)

    def follow(self, plan):
        for step in plan.steps:
            if isinstance(step, Linearise):
                self.linearise(step)
            elif isinstance(step, PullBack):
                self.pull_back(step, plan.books[step.edges][step.book])
            else:
                self.merge(step)
        assert not self.frames
        return self

    def linearise(self, step):
        count = step.counts[self.device]
        if not self.limits.mixes:  # the first is linearised in any case, and forgotten the other
            self.held = {0: int(step.windows[self.device, 0])}
        new = step.windows[self.device, :count].tolist()
        self.held |= dict(zip(step.places[self.device, :count].tolist(), new, strict=True))
        self.linearised += new
        assert set(self.held) <= set(range(self.limits.slots))

    def pull_back(self, step, book):
        slots, frames, at, blocks, points, weights = (values[self.device] for values in book)
        for number in range(step.counts[self.device]):
            batch, row = divmod(number, self.limits.batch)
            batch += step.first
            own = slice(*blocks[batch])
            inside, factor = points[own].reshape(-1, 4), weights[own].ravel()
            mine = (inside[:, 0] == row) & (factor != 0)
            window = self.held[slots[batch, row]]
            value = (
                window,
                step.edges,
                tuple(at[batch, row]),
                tuple(sorted(map(tuple, np.column_stack([inside[mine, 1:], factor[mine]])))),
            )
            self.frames.setdefault(frames[batch, row], []).append(value)
        assert set(self.frames) <= set(range(self.limits.frames))

    def merge(self, step):
        merge = step.frames
        for i in range(merge.counts[self.device]):
            added = self.frames.pop(merge.frames[self.device, i])
            place = step.group, merge.lesions[self.device, i], tuple(merge.at[self.device, i])
            self.taken.append((*place, tuple(sorted(added))))


def expected(pairs):
    """What every item's frame has to be given, and where it has to go."""
    points, weights = pairs.points(np.arange(len(pairs.items)))
    found = []
    for item in range(len(pairs.groups)):
        added = []
        for pair in np.flatnonzero(pairs.items == item):
            there = np.float32(weights[pair]) != 0
            values = np.column_stack([points[pair][there], np.float32(weights[pair][there])])
            edges = tuple(pairs.edges[pair].tolist())
            at, voxels = tuple(pairs.at[pair]), tuple(sorted(map(tuple, values)))
            added.append((pairs.windows[pair], edges, at, voxels))
        place = pairs.groups[item], pairs.lesions[item], tuple(pairs.corners[item])
        found.append((*place, tuple(sorted(added))))
    return sorted(found)


limits = st.builds(
    Limits,
    devices=st.integers(1, 3),
    batch=st.integers(1, 9),
    frames=st.integers(1, 12),
    slots=st.integers(1, 6),
    windows=st.integers(1, 3),
    mixes=st.just(True),
)


@given(st.integers(0, 2**32), st.integers(1, 40), st.integers(1, 9), limits)
def test_every_pair_is_pulled_back_once_and_enters_its_own_lesion(seed, items, windows, limits):
    pairs = random_pairs(seed, items, windows, 1)
    plan = schedule(pairs, limits)
    replays = [Replay(pairs, limits, device).follow(plan) for device in range(limits.devices)]
    assert sorted(value for replay in replays for value in replay.taken) == expected(pairs)


@given(st.integers(0, 2**32), st.integers(1, 20), st.sampled_from([1, 30, 700]), st.integers(1, 3))
def test_so_are_sums_of_points_where_a_single_window_is_kept(seed, items, length, devices):
    limits = Limits(devices=devices, batch=3, frames=4, slots=1, windows=1, mixes=False)
    pairs = random_pairs(seed, items, 3, length)
    plan = schedule(pairs, limits)
    replays = [Replay(pairs, limits, device).follow(plan) for device in range(devices)]
    assert sorted(value for replay in replays for value in replay.taken) == expected(pairs)


def test_books_of_sums_hold_hardly_more_than_the_points_that_there_are():
    length, there = 2**13, 1500  # most points of a lesion are in other windows
    pairs = random_pairs(0, 100, 16, 1)
    random = np.random.default_rng(0)
    rows = np.arange(len(pairs.items))
    positions = random.integers(0, 9, (len(rows), length, 3))
    weights = np.zeros((len(rows), length))
    weights[:, :there] = random.uniform(1, 2, (len(rows), there))
    pairs = replace(
        pairs,
        edges=np.zeros((len(rows), 3), bool),
        length=length,
        points=lambda chosen: (positions[chosen], weights[chosen]),
    )
    limits = Limits(devices=1, batch=8, frames=16, slots=1, windows=1, mixes=False)
    (books,) = schedule(pairs, limits).books.values()
    assert sum(book.weights.size for book in books) <= 2 * len(rows) * there


def neighbours(items, windows):
    """So many items one after the other, each reached by two neighbouring windows."""
    first = np.arange(items) * (windows - 1) // items
    pairs = random_pairs(0, 2 * items, 2, 1)
    rows = np.repeat(np.arange(items), 2)
    zeros = np.zeros((2 * items, 3), int)
    return Pairs(
        items=rows,
        windows=(first[:, None] + [0, 1]).ravel(),
        edges=zeros.astype(bool),
        at=zeros,
        length=1,
        points=pairs.points,
        groups=np.zeros(items, int),
        lesions=np.zeros(items, int),
        corners=zeros[:items],
    )


@pytest.mark.parametrize(("slots", "linearised"), [(1, 6), (2, 4), (3, 3), (4, 3)])
def test_the_windows_that_are_needed_soonest_stay(slots, linearised):
    pairs = replace(neighbours(3, 2), items=np.arange(6), windows=np.array([0, 1, 2, 0, 1, 2]))
    pairs = replace(pairs, groups=np.zeros(6, int), lesions=np.zeros(6, int), corners=pairs.at)
    limits = Limits(devices=1, batch=4, frames=1, slots=slots, windows=1, mixes=True)
    found = Replay(pairs, limits, 0).follow(schedule(pairs, limits))
    assert len(found.linearised) == linearised


@pytest.mark.parametrize(("slots", "steps"), [(9, 3), (8, 2 + 1), (4, 1 + 5)])
def test_free_slots_are_filled_at_once_and_then_one_chunk_after_the_other(slots, steps):
    pairs = neighbours(16, 9)  # each chunk needs two of the nine windows, one of them new
    limits = Limits(devices=1, batch=4, frames=2, slots=slots, windows=4, mixes=True)
    plan = schedule(pairs, limits)
    assert sum(isinstance(step, Linearise) for step in plan.steps) == steps
    assert len(Replay(pairs, limits, 0).follow(plan).linearised) == 9


def test_devices_take_neighbouring_items_and_as_many_pull_backs():
    pairs = neighbours(100, 11)
    limits = Limits(devices=4, batch=4, frames=64, slots=8, windows=4, mixes=True)
    plan = schedule(pairs, limits)
    found = [Replay(pairs, limits, device).follow(plan) for device in range(4)]
    assert [len(replay.taken) for replay in found] == [25] * 4
    assert sum(len(replay.linearised) for replay in found) <= 11 + 2 * 3


def test_a_full_book_is_followed_by_another():
    pairs = neighbours(9000, 3)  # 18,000 pull-backs
    limits = Limits(devices=1, batch=32, frames=2**13, slots=4, windows=4, mixes=True)
    plan = schedule(pairs, limits)
    (books,) = plan.books.values()
    assert len(books) == 2
    assert len(Replay(pairs, limits, 0).follow(plan).taken) == 9000
    assert {len(values) for values in books[0]} == {1}
