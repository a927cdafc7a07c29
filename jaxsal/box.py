"""A box of a grid's positions: the one way in which jaxsal says where a part of an array lies."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from jaxsal.types import Triple


@dataclass(frozen=True, init=False)
class Box:
    """The positions from ``start`` on and before ``stop``, along three axes.

    A box need not lie within an array: positions may be negative, as in the padding of an image.

    Args:
        start: first position (3,), a sequence of integers or an array.
        stop: one past the last position (3,); where it is below ``start``, it becomes that, and the
            box is empty.
    """

    start: Triple
    stop: Triple

    def __init__(self, start: Iterable[Any], stop: Iterable[Any]) -> None:
        first = _triple(start)
        object.__setattr__(self, "start", first)
        object.__setattr__(self, "stop", _triple(map(max, first, stop)))

    @classmethod
    def whole(cls, shape: Iterable[Any]) -> Box:
        """All positions of a grid of this shape (X, Y, Z)."""
        return cls((0, 0, 0), shape)

    @classmethod
    def at(cls, start: Iterable[Any], shape: Iterable[Any]) -> Box:
        """The box of this shape whose first position is ``start``; axes after the third are left.

        So the shape may be that of an array (X, Y, Z, C).
        """
        first = _triple(start)
        return cls(first, (a + int(n) for a, n in zip(first, shape, strict=False)))

    @classmethod
    def around(cls, positions: np.ndarray) -> Box:
        """The smallest box that holds these positions (V, 3), at least one."""
        return cls(positions.min(0), positions.max(0) + 1)

    @classmethod
    def of(cls, mask: np.ndarray) -> Box | None:
        """The smallest box that holds the non-zero elements of a mask (X, Y, Z); None if none is.

        Each axis is searched within what the axes before it left, which takes one pass.
        """
        start, stop = [], []
        for axis in range(3):
            others = tuple(other for other in range(3) if other != axis)
            filled = np.flatnonzero(mask.any(others))
            if not len(filled):
                return None
            start.append(int(filled[0]))
            stop.append(int(filled[-1]) + 1)
            mask = mask[(slice(None),) * axis + (slice(start[-1], stop[-1]),)]
        return cls(start, stop)

    @property
    def shape(self) -> Triple:
        """Number of positions along each axis."""
        x, y, z = (b - a for a, b in zip(self.start, self.stop, strict=True))
        return x, y, z

    @property
    def is_empty(self) -> bool:
        """Whether there is no position in it."""
        return 0 in self.shape

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        """What cuts it from an array that it lies within: ``array[box.slices]``."""
        x, y, z = map(slice, self.start, self.stop)
        return x, y, z

    def __and__(self, other: Box) -> Box:
        """The positions that are in both."""
        return Box(map(max, self.start, other.start), map(min, self.stop, other.stop))

    def __or__(self, other: Box) -> Box:
        """The smallest box that holds both."""
        if self.is_empty or other.is_empty:
            return other if self.is_empty else self
        return Box(map(min, self.start, other.start), map(max, self.stop, other.stop))

    def clip(self, shape: Iterable[Any]) -> Box:
        """The part of it within a grid of this shape."""
        return self & Box.whole(shape)

    def lies_within(self, shape: Iterable[Any]) -> bool:
        """Whether all of it is in a grid of this shape."""
        return self.clip(shape) == self

    def shift(self, by: Iterable[Any]) -> Box:
        """The box moved by so many positions (3,)."""
        x, y, z = _triple(by)
        (a, b, c), (d, e, f) = self.start, self.stop
        return Box((a + x, b + y, c + z), (d + x, e + y, f + z))

    def seen_from(self, position: Iterable[Any]) -> Box:
        """The box where positions are counted from this one (3,)."""
        x, y, z = _triple(position)
        return self.shift((-x, -y, -z))

    def cut(self, array: Any, beyond: float | None = None) -> Any:
        """What an array (X, Y, Z, ...) holds in it: (x, y, z, ...), of NumPy's arrays a view.

        Args:
            array: the array.
            beyond: value at positions that the array does not have; None: there must be none.

        Raises:
            ValueError: if it does not lie within the array, and `beyond` is None.
        """
        inside = self.clip(array.shape[:3])
        if beyond is not None and inside != self:
            return inside.seen_from(self.start).place(array[inside.slices], self.shape, beyond)
        self._require_within(array.shape[:3])
        return array[self.slices]

    def place(self, values: np.ndarray, shape: Iterable[Any], fill: float = 0) -> np.ndarray:
        """An array on a grid of this shape: values (x, y, z, ...) in the box, `fill` elsewhere.

        Raises:
            ValueError: if it does not lie within the grid, or is not of the values' shape.
        """
        x, y, z = _triple(shape)
        self._require_within((x, y, z))
        if values.shape[:3] != self.shape:
            raise ValueError(f"values of shape {values.shape} do not fill a box of {self.shape}")
        whole = np.full((x, y, z, *values.shape[3:]), fill, values.dtype)
        whole[self.slices] = values
        return whole

    def _require_within(self, shape: Iterable[Any]) -> None:
        shape = tuple(shape)
        if not self.lies_within(shape):
            raise ValueError(f"the box from {self.start} to {self.stop} leaves the grid {shape}")


def _triple(values: Iterable[Any]) -> Triple:
    x, y, z = (int(value) for value in values)
    return x, y, z
