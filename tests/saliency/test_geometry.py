"""Frames hold the boxes of all windows, and a lesion's box the frames of its items."""

from __future__ import annotations

import numpy as np
import pytest

from jaxsal.field.sliding import sliding_window
from jaxsal.saliency.domains import Domain
from jaxsal.saliency.geometry import FEWEST_NEAR_EDGES, Geometry, frame_size, map_size
from jaxsal.saliency.items import ItemWindows, items_of, voxel_groups
from jaxsal.saliency.methods.smoothgrad import SmoothGradSettings

SHAPE = (40, 33, 24)
MANY = 1000  # noisy images, for which voxels near edges have programs of their own


class Near:
    """Gradients within two voxels of a point, as far as the window of 16 goes."""

    box = (5, 5, 5)
    mixes_windows = True

    def starts(self, points):
        return np.clip(points - 2, 0, 16 - np.array(self.box))

    def edges(self, points):
        return points < 2

    def near(self, edges):
        near = Near()
        near.box = tuple(4 if edge else 5 for edge in edges)
        return near


class Wide(Near):
    """Boxes of 11 voxels, but of 8 for points within four of an edge."""

    box = (11, 11, 11)

    def starts(self, points):
        return np.clip(points - 5, 0, 16 - np.array(self.box))

    def edges(self, points):
        return np.minimum(points, 15 - points) < 4

    def near(self, edges):
        near = Wide()
        near.box = tuple(8 if edge else 11 for edge in edges)
        return near


@pytest.fixture(scope="module")
def windows():
    random = np.random.default_rng(0)
    corners = random.integers(2, np.array(SHAPE) - 5, (6, 3))
    domains = [
        Domain(i, corner + np.argwhere(np.ones((3, 2, 2)))) for i, corner in enumerate(corners)
    ]
    items = items_of(domains, [voxel_groups(d, SmoothGradSettings()) for d in domains])
    voxels = np.concatenate([domain.voxels for domain in domains])
    plan = sliding_window(lambda x: x, roi=16).plan(SHAPE, voxels)
    return ItemWindows(plan, voxels, items)


@pytest.fixture(scope="module")
def geometry(windows):
    return Geometry(windows, Near(), MANY)


def test_for_few_gradients_no_voxels_count_as_near_edges(windows, geometry):
    lesions = [{lesion: lesion for lesion in range(6)}]
    gradients = len(geometry.pairs(lesions).items)
    few = (FEWEST_NEAR_EDGES - 1) // gradients
    assert not Geometry(windows, Near(), few).pairs(lesions).edges.any()
    assert Geometry(windows, Near(), few + 1).pairs(lesions).edges.any()


def test_frames_hold_the_boxes_of_all_windows_and_lie_in_their_lesions_maps(geometry):
    assert geometry.several
    groups = [{5: 0, 3: 2}, {1: 0, 0: 1}]
    pairs = geometry.pairs(groups)
    assert len(pairs.groups) == 4 * 12
    for edges in np.unique(pairs.edges, axis=0):
        size = geometry.derivative.near(tuple(edges)).box
        at = pairs.at[(pairs.edges == edges).all(axis=1)]
        assert (at >= 0).all()
        assert (at + size <= geometry.frame).all()
    for number, group in enumerate(groups):
        for lesion, place in group.items():
            mine = (pairs.groups == number) & (pairs.lesions == place)
            assert mine.sum() == 12
            assert (pairs.corners[mine] >= 0).all()
            assert (pairs.corners[mine] + geometry.frame <= geometry.maps[lesion]).all()


def test_boxes_lie_around_their_voxels_in_the_image(geometry):
    pairs = geometry.pairs([{lesion: lesion for lesion in range(6)}])
    lows = np.array([box.start for box in geometry.boxes])
    points, weights = pairs.points(np.arange(len(pairs.items)))
    assert (weights > 0).all()
    corners = (lows[pairs.lesions] + pairs.corners)[pairs.items] + pairs.at
    plan = geometry.windows.plan
    voxels = points[:, 0] + plan.starts[pairs.windows] - plan.before
    assert (corners <= voxels).all()
    assert (voxels < corners + 5).all()
    # every voxel of every lesion, in each window that reaches it
    reached = np.count_nonzero(plan.weights)
    assert len(np.unique(np.column_stack([voxels, pairs.windows]), axis=0)) == reached


def test_frames_are_no_larger_than_the_boxes_near_the_edges_of_windows_need():
    field = sliding_window(lambda x: x, roi=16, overlap=0.25)  # 4 voxels that two windows reach
    voxels = np.stack(np.meshgrid(range(12, 16), [6], [6], indexing="ij"), axis=-1).reshape(-1, 3)
    domain = Domain(1, voxels)
    items = items_of([domain], [voxel_groups(domain, SmoothGradSettings())])
    windows = ItemWindows(field.plan((28, 16, 16), voxels), voxels, items)
    geometry = Geometry(windows, Wide(), MANY)
    assert windows.counts.tolist() == [2] * 4
    assert geometry.frame == (16, 16, 16)


def test_every_item_is_pulled_back_once_per_window(geometry):
    windows = geometry.windows
    reached = np.count_nonzero(windows.plan.weights, axis=1)  # an item is a voxel
    expected = np.bincount(windows.items.owners, reached[windows.items.rows[:, 0]])
    np.testing.assert_array_equal(windows.pull_backs, expected)
    assert windows.most == reached.max()
    assert sum(geometry.shares) == reached.sum()


def test_frames_and_maps_have_few_sizes():
    assert frame_size((1, 16, 17)) == (16, 16, 32)
    assert map_size((8, 9, 10), (8, 9, 10)) == (8, 9, 10)
    assert map_size((8, 9, 10), (9, 9, 20)) == (24, 25, 26)
    assert map_size((8, 9, 10), (8, 26, 10)) == (40, 41, 42)
    assert map_size((8, 9, 10), (8, 9, 59)) == (72, 73, 74)
