"""Where the gradients of lesions lie: boxes, frames and maps of the image.

An item's gradient is non-zero in one box per window that reaches it, of a fixed size. The frame of
an item holds its boxes, and the map of a lesion the frames of its items. Frames and maps have few
sizes, so that lesions share compiled programs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from jaxsal.box import Box
from jaxsal.saliency.books import codes_of
from jaxsal.saliency.schedule import Pairs

if TYPE_CHECKING:
    from jaxsal.saliency.derivative import Derivative
    from jaxsal.saliency.items import ItemWindows
    from jaxsal.types import Triple

_FRAME_STEP = 16  # sides of frames are multiples of this
# With fewer gradients, compiling programs for voxels near edges takes longer than they save: of the
# paper's U-Net on one core 4 to 5 s for each of up to seven, and 12 to 40 % of 34 ms per gradient.
FEWEST_NEAR_EDGES = 2500


def frame_size(shape: Triple | np.ndarray) -> Triple:
    """The size of a frame that holds a box of this shape."""
    x, y, z = (int(-(-n // _FRAME_STEP) * _FRAME_STEP) for n in shape)
    return x, y, z


def map_size(frame: Triple, shape: Triple) -> Triple:
    """The size of a map of this shape or larger: the frame's and 0, 16, 32, 64 … on each axis."""
    wider = max(n - f for n, f in zip(shape, frame, strict=True))
    extra = _FRAME_STEP << (-(-wider // _FRAME_STEP) - 1).bit_length() if wider > 0 else 0
    x, y, z = (f + extra for f in frame)
    return x, y, z


@dataclass(frozen=True)
class Geometry:
    """Where the gradients lie that a derivative returns.

    Attributes:
        windows: which items come from which windows.
        derivative: whose boxes are meant.
        samples: number of noisy images at which all of that is computed.
    """

    windows: ItemWindows
    derivative: Derivative
    samples: int

    @cached_property
    def frame(self) -> Triple:
        """Size of the items' frames; the box's where a single window reaches each item."""
        low, high = self._spans
        return frame_size((high - low).max(axis=0)) if self.several else self.derivative.box

    @property
    def several(self) -> bool:
        """Whether several windows reach an item."""
        return self.windows.most > 1

    @cached_property
    def boxes(self) -> list[Box]:
        """The box of the image that holds the frames of a lesion's items, for each lesion."""
        low, _ = self._spans
        lows = np.full((self.windows.lesions, 3), np.iinfo(int).max)
        highs = np.full((self.windows.lesions, 3), np.iinfo(int).min)
        np.minimum.at(lows, self.windows.items.owners, low)
        np.maximum.at(highs, self.windows.items.owners, low + np.array(self.frame))
        return list(map(Box, lows, highs))

    @cached_property
    def maps(self) -> list[Triple]:
        """The size of each lesion's map."""
        return [map_size(self.frame, box.shape) for box in self.boxes]

    @cached_property
    def shares(self) -> list[int]:
        """How many pull-backs an image takes of each kind, which do not share a batch."""
        kinds = codes_of(self._edges) if self.derivative.mixes_windows else self.windows.windows
        return [n for n in np.bincount(kinds).tolist() if n]

    def footprint(self, lesion: int) -> Box:
        """Where in the image a lesion's map can be non-zero."""
        items, plan = self.windows.items, self.windows.plan
        rows = np.unique(items.rows[items.owners == lesion])
        return plan.footprint(self.windows.voxels, rows[rows >= 0]) & self.boxes[lesion]

    def pairs(self, groups: Sequence[Mapping[int, int]]) -> Pairs:
        """The items of some lesions with the windows that reach them.

        Args:
            groups: the lesions, by number, and the place of each in its group, whose maps have the
                same size.
        """
        windows = self.windows
        group_of, place_of = np.full((2, windows.lesions), -1)
        for number, group in enumerate(groups):
            group_of[list(group)], place_of[list(group)] = number, list(group.values())
        owners = windows.items.owners
        chosen = group_of[owners] >= 0
        rows = np.flatnonzero(chosen[windows.of_pairs])
        owners, low = owners[chosen], self._spans[0]
        return Pairs(
            items=(np.cumsum(chosen) - 1)[windows.of_pairs[rows]],
            windows=windows.windows[rows],
            edges=self._edges[rows],
            at=(self._boxes[0] - low[windows.of_pairs])[rows],
            length=windows.items.rows.shape[1],
            points=lambda pairs: windows.points(rows[pairs]),
            groups=group_of[owners],
            lesions=place_of[owners],
            corners=low[chosen] - np.array([box.start for box in self.boxes])[owners],
        )

    @cached_property
    def _first_points(self) -> np.ndarray:
        """(R, 3) in its window the first voxel of each pair, the only one where boxes differ."""
        first = self.windows.items.rows[self.windows.of_pairs, 0]
        plan = self.windows.plan
        inside = self.windows.voxels[first] + plan.before - plan.starts[self.windows.windows]
        return np.clip(inside, 0, np.array(plan.size) - 1)

    @cached_property
    def _edges(self) -> np.ndarray:
        """(R, 3) near which edges of the window, along each axis, the voxels count as lying."""
        points = self._first_points
        if len(points) * self.samples < FEWEST_NEAR_EDGES:
            return np.zeros((len(points), 3), bool)
        return self.derivative.edges(points)

    @cached_property
    def _boxes(self) -> tuple[np.ndarray, np.ndarray]:
        """(R, 3) where in the image the quickest derivatives' boxes begin, and their sizes."""
        starts, sizes = np.empty((2, *self._first_points.shape), int)
        for edges in np.unique(self._edges, axis=0):
            rows = (self._edges == edges).all(axis=1)
            near = self.derivative.near(tuple(edges.tolist()))
            starts[rows], sizes[rows] = near.starts(self._first_points[rows]), near.box
        return starts + self._origins, sizes

    @property
    def _origins(self) -> np.ndarray:
        """(R, 3) where in the image the windows begin: in the padding, starts are negative."""
        plan = self.windows.plan
        return plan.starts[self.windows.windows] - np.array(plan.before)

    @cached_property
    def _spans(self) -> tuple[np.ndarray, np.ndarray]:
        """First positions (I, 3) of the items' boxes in the image, and one past the last."""
        starts, sizes = self._boxes
        first = np.cumsum(self.windows.counts) - self.windows.counts
        low, high = (
            end.reduceat(values, first, axis=0)
            for end, values in ((np.minimum, starts), (np.maximum, starts + sizes))
        )
        return low, high
