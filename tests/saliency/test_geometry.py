"""Frames hold the boxes of all windows, and a lesion's box the frames of its items."""

from __future__ import annotations

import numpy as np
import pytest

from jaxsal.box import Box
from jaxsal.field.sliding import sliding_window
from jaxsal.saliency.domains import Domain
from jaxsal.saliency.geometry import Geometry, frame_size
from jaxsal.saliency.items import ItemWindows, items_of, voxel_groups
from jaxsal.saliency.methods.smoothgrad import SmoothGradSettings

SHAPE = (40, 33, 24)


class Near:
    """Gradients within two voxels of a point, as far as the window of 16 goes."""

    box = (5, 5, 5)

    def starts(self, points):
        return np.clip(points[:, 0] - 2, 0, 16 - 5)

    def near(self, points):
        return self


@pytest.fixture(scope="module")
def geometry():
    random = np.random.default_rng(0)
    corners = random.integers(2, np.array(SHAPE) - 5, (6, 3))
    domains = [
        Domain(i, corner + np.argwhere(np.ones((3, 2, 2)))) for i, corner in enumerate(corners)
    ]
    items = items_of(domains, [voxel_groups(d, SmoothGradSettings()) for d in domains])
    voxels = np.concatenate([domain.voxels for domain in domains])
    plan = sliding_window(lambda x: x, roi=16).plan(SHAPE, voxels)
    return Geometry(ItemWindows(plan, voxels, items), Near())


def test_a_frame_holds_an_items_boxes_and_lies_in_its_lesions_box(geometry):
    windows = geometry.windows
    assert any(len(group.windows) > 1 for group in windows.groups)
    for group in windows.groups:
        several = len(group.windows) > 1
        size = geometry.frame if several else geometry.derivative.box
        for corner, owner in zip(
            geometry.corners(group.windows, group.items), group.items.owners, strict=True
        ):
            frame = Box.at(corner, size)
            assert frame & geometry.boxes[owner] == frame
        for window in group.windows:
            points, _ = windows.points(group.items, window)
            inner = geometry.box_corners(window, points, geometry.derivative)
            frames = geometry.corners(group.windows, group.items)
            assert (inner >= frames).all()
            assert (inner + geometry.derivative.box <= frames + size).all()


def test_every_item_is_pulled_back_once_per_window(geometry):
    windows = geometry.windows
    reached = np.count_nonzero(windows.plan.weights, axis=1)  # an item is a voxel
    expected = np.bincount(windows.items.owners, reached[windows.items.rows[:, 0]])
    np.testing.assert_array_equal(windows.pull_backs, expected)
    assert windows.most == reached.max()


def test_frames_have_few_sizes():
    assert frame_size((1, 16, 17)) == (16, 16, 32)
