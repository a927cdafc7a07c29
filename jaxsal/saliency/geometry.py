"""Where the gradients of lesions lie: boxes and frames of the image.

An item's gradient is non-zero in one box per window that reaches it, of a fixed size. The frame of
an item holds its boxes, and the frame of a lesion those of its items. Frames have few sizes, so
that lesions share compiled programs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from jaxsal.box import Box

if TYPE_CHECKING:
    from jaxsal.saliency.derivative import Derivative
    from jaxsal.saliency.items import Items, ItemWindows
    from jaxsal.types import Triple

_FRAME_STEP = 16  # sides of frames are multiples of this


def frame_size(shape: Triple | np.ndarray) -> Triple:
    """The size of a frame that holds a box of this shape."""
    x, y, z = (int(-(-n // _FRAME_STEP) * _FRAME_STEP) for n in shape)
    return x, y, z


@dataclass(frozen=True)
class Geometry:
    """Where the gradients lie that a derivative returns.

    Attributes:
        windows: which items come from which windows.
        derivative: whose boxes are meant.
    """

    windows: ItemWindows
    derivative: Derivative

    @cached_property
    def frame(self) -> Triple:
        """Size of the frame of an item that several windows reach; the box if there is none."""
        several = [
            (high - low).max(axis=0)
            for group, (low, high) in zip(self.windows.groups, self._spans, strict=True)
            if len(group.windows) > 1
        ]
        return frame_size(np.max(several, axis=0) if several else np.array(self.derivative.box))

    @cached_property
    def boxes(self) -> list[Box]:
        """The box of the image that holds the frames of a lesion's items, for each lesion."""
        lows = np.full((self.windows.lesions, 3), np.iinfo(int).max)
        highs = np.full((self.windows.lesions, 3), np.iinfo(int).min)
        for group, (low, _) in zip(self.windows.groups, self._spans, strict=True):
            size = self.frame if len(group.windows) > 1 else self.derivative.box
            np.minimum.at(lows, group.items.owners, low)
            np.maximum.at(highs, group.items.owners, low + size)
        return list(map(Box, lows, highs))

    def footprint(self, lesion: int) -> Box:
        """Where in the image a lesion's map can be non-zero."""
        items, plan = self.windows.items, self.windows.plan
        rows = np.unique(items.rows[items.owners == lesion])
        return plan.footprint(self.windows.voxels, rows[rows >= 0]) & self.boxes[lesion]

    def corners(self, windows: Sequence[int], items: Items) -> np.ndarray:
        """Where in the image (B, 3) the frames of items' gradients begin.

        The frame of an item that a single window reaches is its box, which may be a smaller one
        near the window's edge.
        """
        if len(windows) == 1:
            points, _ = self.windows.points(items, windows[0])
            return self.box_corners(windows[0], points, self.derivative.near(points))
        return np.min(self._all_corners(windows, items), axis=0)

    def box_corners(self, window: int, points: np.ndarray, derivative: Derivative) -> np.ndarray:
        """Where in the image (B, 3) the boxes of points (B, P, 3) of a window begin."""
        plan = self.windows.plan  # starts are negative in the padding
        return plan.starts[window] - np.array(plan.before) + derivative.starts(points)

    @cached_property
    def _spans(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Of each group of items, first positions of their boxes (B, 3), and one past the last."""
        box = np.array(self.derivative.box)
        corners = [self._all_corners(group.windows, group.items) for group in self.windows.groups]
        return [(np.min(each, axis=0), np.max(each, axis=0) + box) for each in corners]

    def _all_corners(self, windows: Sequence[int], items: Items) -> list[np.ndarray]:
        return [
            self.box_corners(window, self.windows.points(items, window)[0], self.derivative)
            for window in windows
        ]
