"""What a map amounts to inside its lesion and around it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.spatial import cKDTree

from jaxsal.saliency.maps import Crop
from jaxsal.scan.lesion_table import SHELLS_MM, shell_sums, shells

SHAPE, SPACING = (30, 40, 36), (1.0, 2.5, 1.7)


@pytest.fixture
def domain() -> np.ndarray:
    """Two voxels and one apart from them, (X, Y, Z) bool."""
    inside = np.zeros(SHAPE, bool)
    inside[12:14, 20, 18] = inside[20, 25, 18] = True
    return inside


@pytest.mark.parametrize("origin", [(5, 7, 3), (13, 21, 10)], ids=["around", "partly"])
def test_shells_are_by_distance_to_the_nearest_voxel_of_the_lesion(
    origin: tuple[int, int, int], domain: np.ndarray
) -> None:
    values = np.random.default_rng(1).standard_normal((16, 18, 20, 2)).astype(np.float32)
    positions = np.stack(np.indices(values.shape[:3]), -1).reshape(-1, 3) + origin
    tree = cKDTree(np.argwhere(domain) * SPACING)
    distance = tree.query(positions * SPACING)[0]
    edges = list(itertools.pairwise((-1.0, 0.0, *SHELLS_MM, np.inf)))
    found = shell_sums(Crop(values, origin, 1), domain, SPACING)
    assert len(found) == 2
    for channel, sums in enumerate(found):
        assert list(sums) == list(shells())
        flat = values[..., channel].ravel()
        names = [name for name in shells() if name.startswith("positive")]
        for (low, high), name in zip(edges, names, strict=True):
            part = flat[(distance > low) & (distance <= high)]
            negative = name.replace("positive", "negative")
            assert sums[name] == pytest.approx(part[part > 0].sum(dtype=float), rel=1e-6)
            assert sums[negative] == pytest.approx(part[part < 0].sum(dtype=float), rel=1e-6)


def test_shells_add_up_to_the_map(domain: np.ndarray) -> None:
    values = np.random.default_rng(2).standard_normal((*SHAPE, 1)).astype(np.float32)
    (sums,) = shell_sums(Crop(values, (0, 0, 0), 1), domain, SPACING)
    assert sum(sums.values()) == pytest.approx(values.sum(dtype=float))


@pytest.mark.parametrize("rounded", [1.0000001, 0.9999999])
def test_a_voxel_size_rounded_by_a_header_moves_no_voxel_to_another_shell(
    rounded: float, domain: np.ndarray
) -> None:
    values = np.random.default_rng(3).standard_normal((*SHAPE, 1)).astype(np.float32)
    crop = Crop(values, (0, 0, 0), 1)
    exact = shell_sums(crop, domain, (1.0, 1.0, 1.0))
    assert shell_sums(crop, domain, (rounded,) * 3) == exact
