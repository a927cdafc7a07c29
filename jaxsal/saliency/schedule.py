"""What the devices do, in which order: planned once, in plain numpy, and followed for all samples.

Items are taken in chunks, of as many as there are frames. A chunk goes through in stages: some
windows are linearised, as many as there are slots, and its items are pulled back through them; then
its frames are taken into the maxima. Windows that later chunks need soonest stay in their slots
(Belády 1966). Pull-backs through voxels of the same `edges` share a program, and stand in its books
(`jaxsal.saliency.books`).

Devices along the item axis have schedules of their own, of the same steps: what one has less to do
is empty. Axes of arrays: D devices, B items of a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, zip_longest
from typing import NamedTuple, TypeAlias

import numpy as np

from jaxsal.saliency.books import Book, Books, Edges, Part, PullBack, codes_of, edges_of

Step: TypeAlias = "Linearise | PullBack | Merge"


class FrameMerge(NamedTuple):
    """Which frames of a chunk are taken into which maxima.

    Attributes:
        frames: (D, M) which frame.
        lesions: (D, M) place of its lesion among those of the same size.
        at: (D, M, 3) where the frame begins in the lesion's map.
        counts: (D,) how many of the M.
    """

    frames: np.ndarray
    lesions: np.ndarray
    at: np.ndarray
    counts: np.ndarray


@dataclass(frozen=True)
class Linearise:
    """Windows to linearise.

    Attributes:
        windows: (D, Q) which of the plan's.
        places: (D, Q) slot of each.
        counts: (D,) how many of the Q.
    """

    windows: np.ndarray
    places: np.ndarray
    counts: np.ndarray


@dataclass(frozen=True)
class Merge:
    """Frames to take into maxima.

    Attributes:
        group: of lesions whose maps have the same size, by number.
        frames: which.
    """

    group: int
    frames: FrameMerge


@dataclass(frozen=True)
class Schedule:
    """Steps in their order, and the books that they read.

    Attributes:
        steps: of a noisy image.
        books: by edges.
    """

    steps: list[Step]
    books: Mapping[Edges, list[Book]]


@dataclass(frozen=True)
class Limits:
    """How much goes at once on each device.

    Attributes:
        devices: D.
        batch: B, items of a pull-back.
        frames: M, items of a chunk.
        slots: windows that are kept linearised.
        windows: Q, windows that are cut at once.
        mixes: whether a batch may hold items of several windows.
    """

    devices: int
    batch: int
    frames: int
    slots: int
    windows: int
    mixes: bool


@dataclass(frozen=True)
class Pairs:
    """Items and what is pulled back for them: one pair for each window that reaches an item.

    Attributes:
        items: (R,) increasing: which of the I items.
        windows: (R,) which of the plan's windows.
        edges: (R, 3) of `DenseDerivative.edges`.
        at: (R, 3) where in the item's frame the gradient's box begins.
        length: P, voxels of an item at most.
        points: from (n,) of the pairs to their voxels in the window (n, P, 3), and the factors of
            these (n, P); zero for those that are none.
        groups: (I,) number of the group of lesions whose maps have the same size as the item's.
        lesions: (I,) place of the item's lesion in that group.
        corners: (I, 3) where the item's frame begins in its lesion's map.
    """

    items: np.ndarray
    windows: np.ndarray
    edges: np.ndarray
    at: np.ndarray
    length: int
    points: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
    groups: np.ndarray
    lesions: np.ndarray
    corners: np.ndarray


class _Chunk(NamedTuple):
    """Items ``first`` to ``stop - 1``, and the pairs of each stage with their slots."""

    first: int
    stop: int
    stages: list[_Stage]


class _Stage(NamedTuple):
    new: list[tuple[int, int]]  # windows to linearise, and the slots for them
    pairs: np.ndarray
    slots: np.ndarray


def schedule(pairs: Pairs, limits: Limits) -> Schedule:
    """Plans the work of one noisy image."""
    shares = [_chunks(pairs, *share, limits) for share in _shares(pairs, limits.devices)]
    books: dict[Edges, Books] = {}
    steps: list[Step] = []
    current = np.zeros(limits.devices, np.int32)
    for chunks in zip_longest(*shares):
        of_devices = [chunk.stages if chunk else [] for chunk in chunks]
        for stages in zip_longest(*of_devices):
            for device, stage in enumerate(stages):
                if stage:
                    current[device] = pairs.windows[stage.pairs[0]]
            steps += _linearisations(stages, limits, current)
            steps += _pull_backs(pairs, chunks, stages, limits, books)
        steps += _merges(pairs, chunks, limits)
    return Schedule(steps, {edges: made.finished for edges, made in books.items()})


def _shares(pairs: Pairs, devices: int) -> list[tuple[int, int]]:
    """First item of each device and one past the last: neighbours, with as many pull-backs."""
    total = np.cumsum(np.bincount(pairs.items, minlength=len(pairs.groups)))
    cuts = np.searchsorted(total, total[-1] * np.arange(1, devices) / devices, side="left") + 1
    ends = [0, *np.minimum(cuts, len(total)).tolist(), len(total)]
    return list(pairwise(ends))


def _chunks(pairs: Pairs, first: int, stop: int, limits: Limits) -> list[_Chunk]:
    """The chunks of a device's items, and what stays in its slots from one to the next."""
    begins = range(first, stop, limits.frames)
    ends = [min(begin + limits.frames, stop) for begin in begins]
    spans = [
        slice(*np.searchsorted(pairs.items, [begin, end]))
        for begin, end in zip(begins, ends, strict=True)
    ]
    needs = [_in_order(pairs.windows[span]) for span in spans]
    slots = _Slots(limits.slots, needs)
    chunks = []
    for number, (begin, end, span) in enumerate(zip(begins, ends, spans, strict=True)):
        stages = [_stage(pairs, span, new, places) for new, places in slots.stages(number)]
        chunks.append(_Chunk(begin, end, stages))
    return chunks


def _in_order(windows: np.ndarray) -> list[int]:
    """The windows, each once, in the order of their first use."""
    return list(dict.fromkeys(windows.tolist()))


def _stage(
    pairs: Pairs, span: slice, new: list[tuple[int, int]], places: Mapping[int, int]
) -> _Stage:
    """The pairs of a chunk whose windows are in these places."""
    slot_of = np.full(int(pairs.windows[span].max()) + 1, -1)
    for window, slot in places.items():
        slot_of[window] = slot
    slots = slot_of[pairs.windows[span]]
    inside = np.flatnonzero(slots >= 0)
    return _Stage(new, span.start + inside, slots[inside])


class _Slots:
    """Which windows are in which slots, from chunk to chunk.

    Args:
        count: of the slots.
        needs: the windows of each chunk.
    """

    def __init__(self, count: int, needs: Sequence[Sequence[int]]) -> None:
        self._count, self._needs = count, needs
        self._uses: dict[int, list[int]] = {}
        for chunk, windows in enumerate(needs):
            for window in windows:
                self._uses.setdefault(window, []).append(chunk)
        self._first = list(self._uses)[:count]
        self._held: dict[int, int] = {}

    def stages(self, chunk: int) -> Iterator[tuple[list[tuple[int, int]], dict[int, int]]]:
        """Of each stage of a chunk the windows to linearise with their slots, and all its places.

        First come the windows that are there already. Free slots are filled at once, with what
        later chunks need soonest: the same windows, in fewer steps.
        """
        left = list(self._needs[chunk])
        while left:
            here = [window for window in left if window in self._held]
            room = self._count - len(here)
            missing = [window for window in left if window not in self._held][:room]
            missing = missing if self._held else self._first
            new = []
            for window in missing:
                slot = self._make_room(chunk, {*here, *missing})
                self._held[window] = slot
                new.append((window, slot))
            ready = [window for window in left if window in here or window in missing]
            yield new, {window: self._held[window] for window in ready}
            left = [window for window in left if window not in ready]

    def _make_room(self, chunk: int, kept: set[int]) -> int:
        """A slot that is free, or whose window is needed last, and not now."""
        if len(self._held) < self._count:
            return len(self._held)
        gone = max((w for w in self._held if w not in kept), key=lambda w: self._next(w, chunk))
        return self._held.pop(gone)

    def _next(self, window: int, chunk: int) -> float:
        later = [use for use in self._uses[window] if use > chunk]
        return later[0] if later else np.inf


def _linearisations(
    stages: Sequence[_Stage | None], limits: Limits, current: np.ndarray
) -> Iterator[Step]:
    """The new windows of a stage, so many at once.

    Where a single window is kept, devices without a new one linearise their current one again.
    """
    news = [stage.new if stage else [] for stage in stages]
    for first in range(0, max(map(len, news)), limits.windows):
        windows = np.repeat(current[:, None], limits.windows, axis=1)
        places = np.zeros_like(windows)
        counts = np.zeros(limits.devices, np.int32)
        for device, new in enumerate(news):
            here = new[first : first + limits.windows]
            counts[device] = len(here)
            if here:
                windows[device, : len(here)], places[device, : len(here)] = np.transpose(here)
        yield Linearise(windows, places, counts)


def _pull_backs(
    pairs: Pairs,
    chunks: Sequence[_Chunk | None],
    stages: Sequence[_Stage | None],
    limits: Limits,
    books: dict[Edges, Books],
) -> Iterator[Step]:
    """The pull-backs of a stage, by the edges that their points are near to."""
    none = np.zeros(0, int)
    chosen = [stage.pairs if stage else none for stage in stages]
    slots = [stage.slots if stage else none for stage in stages]
    firsts = [chunk.first if chunk else 0 for chunk in chunks]
    codes = [codes_of(pairs.edges[rows]) for rows in chosen]
    for code in np.unique(np.concatenate(codes)).tolist():
        edges = edges_of(code)
        if edges not in books:
            books[edges] = Books(edges, pairs, limits)
        parts = [
            Part(rows[mine], places[mine], pairs.items[rows[mine]] - first)
            for rows, places, first, mine in zip(
                chosen, slots, firsts, [c == code for c in codes], strict=True
            )
        ]
        yield from books[edges].add(parts)


def _merges(pairs: Pairs, chunks: Sequence[_Chunk | None], limits: Limits) -> Iterator[Step]:
    """The frames of a chunk, by the groups of their lesions."""
    items = [np.arange(chunk.first, chunk.stop) if chunk else np.zeros(0, int) for chunk in chunks]
    for group in np.unique(pairs.groups[np.concatenate(items)]).tolist():
        merge = FrameMerge(
            np.zeros((limits.devices, limits.frames), np.int32),
            np.zeros((limits.devices, limits.frames), np.int32),
            np.zeros((limits.devices, limits.frames, 3), np.int32),
            np.zeros(limits.devices, np.int32),
        )
        for device, own in enumerate(items):
            mine = own[pairs.groups[own] == group]
            n = len(mine)
            if n:
                merge.frames[device, :n] = mine - own[0]
                merge.lesions[device, :n] = pairs.lesions[mine]
                merge.at[device, :n] = pairs.corners[mine]
                merge.counts[device] = n
        yield Merge(group, merge)
