"""Lesions copied from one place to another, voxel by voxel."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from jaxsal.experiments.synthetic_grafts import Graft, grafted, placed, places
from jaxsal.grid import Grid

SHAPE = (14, 12, 10)


@pytest.fixture
def omega() -> np.ndarray:
    omega = np.zeros(SHAPE, bool)
    omega[4:6, 5:8, 3] = omega[4, 5, 4] = True
    return omega


@pytest.mark.parametrize("mm", [0.0, 1.0, 3.0])
def test_surroundings_are_what_lies_within_so_many_mm(omega: np.ndarray, mm: float) -> None:
    spacing = (1.0, 0.8, 2.0)
    graft = Graft.of(omega, mm, Grid(SHAPE, np.diag([*spacing, 1.0])))
    voxels = np.argwhere(np.ones(SHAPE))
    away = np.linalg.norm((voxels[:, None] - np.argwhere(omega)) * spacing, axis=-1).min(1)
    np.testing.assert_array_equal(
        placed(graft.part, graft.corner, SHAPE), (away <= mm).reshape(SHAPE)
    )
    np.testing.assert_array_equal(placed(graft.omega, graft.corner, SHAPE), omega)


def test_places_are_all_those_where_a_part_fits(omega: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    allowed = ndimage.binary_opening(rng.random(SHAPE) < 0.9, np.ones((2, 3, 2)))
    part = Graft.of(omega, 0, Grid(SHAPE, np.eye(4))).part
    found = {tuple(corner) for corner in places(allowed, part).tolist()}
    expected = {
        corner
        for corner in np.ndindex(*(m - n + 1 for m, n in zip(SHAPE, part.shape, strict=True)))
        if not (placed(part, np.array(corner), SHAPE) & ~allowed).any()
    }
    assert found == expected
    assert len(found) > 3


def test_there_is_no_place_for_a_part_larger_than_the_volume() -> None:
    assert places(np.ones((3, 9, 9), bool), np.ones((4, 1, 1), bool)).shape == (0, 3)


def test_only_the_part_changes_and_it_takes_all_channels_along(omega: np.ndarray) -> None:
    images = np.random.default_rng(1).random((*SHAPE, 2))
    graft = Graft.of(omega, 1.0, Grid(SHAPE, np.eye(4)))
    corner = np.array([9, 0, 5])
    result = grafted(images, graft, corner)
    there = placed(graft.part, corner, SHAPE)
    np.testing.assert_array_equal(result[~there], images[~there])
    shift = corner - graft.corner
    for voxel in np.argwhere(there):
        np.testing.assert_array_equal(result[tuple(voxel)], images[tuple(voxel - shift)])
