"""Where the gradients of lesions lie: positions in windows, and boxes and frames of the image.

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
from jaxsal.saliency.items import (
    Items,
    WindowGroup,
    points_in_window,
    pull_backs,
    window_groups,
)

if TYPE_CHECKING:
    from jaxsal.field.plan import WindowPlan
    from jaxsal.saliency.derivative import Derivative
    from jaxsal.types import Triple

_FRAME_STEP = 16  # sides of frames are multiples of this


def frame_size(shape: Triple | np.ndarray) -> Triple:
    """The size of a frame that holds a box of this shape."""
    x, y, z = (int(-(-n // _FRAME_STEP) * _FRAME_STEP) for n in shape)
    return x, y, z


@dataclass(frozen=True)
class ItemWindows:
    """Which items come from which windows.

    Attributes:
        plan: the windows, and their weights for each voxel.
        voxels: (V, 3) positions of all lesions' voxels in the image.
        items: of all lesions.
    """

    plan: WindowPlan
    voxels: np.ndarray
    items: Items

    @cached_property
    def groups(self) -> list[WindowGroup]:
        """All items by the windows that reach them."""
        return window_groups(self.plan, self.items)

    @cached_property
    def most(self) -> int:
        """The largest number of windows that reach an item."""
        return max(len(group.windows) for group in self.groups)

    @cached_property
    def pull_backs(self) -> np.ndarray:
        """(L,) how many pull-backs each lesion takes at one noisy image."""
        return pull_backs(self.groups, self.lesions)

    @property
    def lesions(self) -> int:
        """Number of lesions."""
        return int(self.items.owners.max()) + 1

    def points(self, items: Items, window: int) -> tuple[np.ndarray, np.ndarray]:
        """The items' voxels (B, P, 3) in a window, and their weights there (B, P)."""
        return points_in_window(self.plan, self.voxels, items, window)

    def origin(self, window: int) -> np.ndarray:
        """First position (3,) of a window in the image; negative in the padding."""
        origin: np.ndarray = self.plan.starts[window] - np.array(self.plan.before)
        return origin

    def footprint(self, lesion: int) -> Box:
        """Where in the image the gradient of a lesion's logits can be non-zero."""
        rows = np.unique(self.items.rows[self.items.owners == lesion])
        return self.plan.footprint(self.voxels, rows[rows >= 0])


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
        return self.windows.footprint(lesion) & self.boxes[lesion]

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
        return self.windows.origin(window) + derivative.starts(points)

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
