"""Books: what the programs for pull-backs read, batch after batch.

Their sizes are fixed, whatever the work, so that nothing is compiled again; what is left of one is
never read. Axes: D devices along the item axis, S batches of a book, B items of a batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from jaxsal.saliency.schedule import Limits, Pairs

Edges: TypeAlias = tuple[bool, bool, bool]

_PAIRS = 2**14  # pull-backs in a book
_POINTS = 2**16  # points in a book of sums, at least
_BLOCK = 256  # points of sums that are added at once
_SUM_BATCHES = 2**10  # batches in a book of sums


class Book(NamedTuple):
    """What a program for pull-backs reads, batch after batch; D is missing inside a program.

    What fills up a batch has weight 0 and the last frame, which no item has.

    Attributes:
        slots: (D, S, B) slot of each item's window.
        frames: (D, S, B) frame of each item.
        at: (D, S, B, 3) where in its frame the gradient's box begins.
        blocks: (D, S, 2) first block of points of each batch, and one past the last.
        points: (D, T, P, 4) blocks of points: which item of the batch, and where in its window.
        weights: (D, T, P) factor of each point's logit.
    """

    slots: np.ndarray
    frames: np.ndarray
    at: np.ndarray
    blocks: np.ndarray
    points: np.ndarray
    weights: np.ndarray


@dataclass(frozen=True)
class PullBack:
    """Batches of a book.

    Attributes:
        edges: whose book.
        book: its number.
        first: batch in it.
        counts: (D,) how many pull-backs, of which the last batch may not be full.
    """

    edges: Edges
    book: int
    first: int
    counts: np.ndarray


class Part(NamedTuple):
    """Pairs of a device, with the slot and the frame of each: (n,)."""

    pairs: np.ndarray
    slots: np.ndarray
    frames: np.ndarray

    def cut(self, first: int, stop: int) -> Part:
        """Pairs ``first`` to ``stop - 1`` of them."""
        return Part(*(values[first:stop] for values in self))


class _Points(NamedTuple):
    """Points of pull-backs: item of the batch (n,), where in its window (n, 3), factor (n,)."""

    rows: np.ndarray
    positions: np.ndarray
    weights: np.ndarray


class Books:
    """The books of some edges, while they are written.

    Args:
        edges: of all points in them.
        pairs: what is pulled back.
        limits: how much goes at once.

    Attributes:
        finished: the books.
    """

    def __init__(self, edges: Edges, pairs: Pairs, limits: Limits) -> None:
        self._edges, self._pairs, self._limits = edges, pairs, limits
        self._single = pairs.length == 1
        self.finished: list[Book] = []
        self._batches = 0  # in the last book
        self._blocks = np.zeros(limits.devices, int)  # of points in it
        block = limits.batch if self._single else _BLOCK
        most = limits.batch * pairs.length
        self._sizes = _sizes(limits.batch, block, most, single=self._single)
        self._block = block

    def add(self, parts: Sequence[Part]) -> Iterator[PullBack]:
        """Writes pull-backs that are done one after the other, as many of each device at once."""
        batch, capacity = self._limits.batch, self._sizes[0]
        most, first = max(len(part.pairs) for part in parts), 0
        while first < most:
            if not self.finished or self._batches == capacity:
                self._begin()
            room = capacity - self._batches if self._single else 1
            here = [part.cut(first, first + room * batch) for part in parts]
            points = [self._points(part.pairs) for part in here]
            if not self._has_room(points):
                self._begin()
            yield self._write(here, points)
            first += room * batch

    def _points(self, pairs: np.ndarray) -> _Points:
        """The points of pull-backs; of sums without those that only fill up."""
        positions, weights = self._pairs.points(pairs)
        rows = np.repeat(np.arange(len(pairs)) % self._limits.batch, weights.shape[1])
        found = _Points(rows, positions.reshape(-1, 3), weights.ravel())
        if self._single:
            return found
        return _Points(*(values[found.weights != 0] for values in found))

    def _has_room(self, points: Sequence[_Points]) -> bool:
        """Whether the points of a batch, of each device, fit into the last book."""
        needed = max(-(-len(own.rows) // self._block) for own in points)
        return self._single or int(self._blocks.max()) + needed <= self._sizes[1]

    def _begin(self) -> None:
        devices, batch = self._limits.devices, self._limits.batch
        batches, blocks = self._sizes
        self._batches, self._blocks[:] = 0, 0
        self.finished.append(
            Book(
                np.zeros((devices, batches, batch), np.int32),
                np.full((devices, batches, batch), self._limits.frames, np.int32),
                np.zeros((devices, batches, batch, 3), np.int32),
                np.zeros((devices, batches, 2), np.int32),
                np.zeros((devices, blocks, self._block, 4), np.int32),
                np.zeros((devices, blocks, self._block), np.float32),
            )
        )

    def _write(self, parts: Sequence[Part], points: Sequence[_Points]) -> PullBack:
        first, book = self._batches, self.finished[-1]
        for device, (part, own) in enumerate(zip(parts, points, strict=True)):
            one = Book(*(values[device] for values in book))
            for values, new in (
                (one.slots, part.slots),
                (one.frames, part.frames),
                (one.at, self._pairs.at[part.pairs]),
            ):
                _flat(values, first)[: len(new)] = new
            self._write_points(one, first, device, own)
        counts = np.array([len(part.pairs) for part in parts], np.int32)
        self._batches += -(-int(counts.max()) // self._limits.batch)
        return PullBack(self._edges, len(self.finished) - 1, first, counts)

    def _write_points(self, book: Book, first: int, device: int, own: _Points) -> None:
        """In a block per batch if items are single voxels; else as many as their points fill."""
        count = len(own.rows)
        blocks = -(-count // self._block)
        if self._single:
            begin = first
            book.blocks[first : first + blocks, 0] = np.arange(first, first + blocks)
            book.blocks[first : first + blocks, 1] = np.arange(first, first + blocks) + 1
        else:
            begin = int(self._blocks[device])
            self._blocks[device] += blocks
            book.blocks[first] = begin, self._blocks[device]
        flat = _flat(book.points, begin)[:count]
        flat[:, 0], flat[:, 1:] = own.rows, own.positions
        _flat(book.weights, begin)[:count] = own.weights


def points_bytes(length: int) -> int:
    """Bytes of a book, at most, for each item of a batch of sums of so many points; 0 for one."""
    return 0 if length == 1 else 2 * 20 * length  # books have a power of two of blocks


def codes_of(edges: np.ndarray) -> np.ndarray:
    """A number (n,) for each of some edges (n, 3)."""
    return edges @ [4, 2, 1]


def edges_of(code: int) -> Edges:
    """The edges that have this number."""
    return bool(code & 4), bool(code & 2), bool(code & 1)


def _flat(values: np.ndarray, first: int) -> np.ndarray:
    """A view of the elements from a batch or block on, one after the other."""
    return values[first:].reshape(-1, *values.shape[2:])


def _sizes(batch: int, block: int, most: int, *, single: bool) -> tuple[int, int]:
    """How many batches a book has, and how many blocks; ``most``: points of a batch at most."""
    batches = max(_PAIRS // batch, 1)
    if single:
        return batches, batches
    needed = max(most, _POINTS)
    return _SUM_BATCHES, 1 << (-(-needed // block) - 1).bit_length()
