"""Steps of a millimetre around a lesion, against distances by brute force."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from jaxsal.experiments.contributions_tally import Shells
from jaxsal.saliency.maps import Crop

SHAPE = (9, 8, 7)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.9, 1.3, 3.0)])
@pytest.mark.parametrize("box", [((0, 0, 0), SHAPE), ((2, 1, 2), (4, 3, 3))])
def test_every_voxel_lies_between_the_bounds_of_its_shell(
    spacing: tuple[float, float, float], box: tuple[tuple[int, int, int], tuple[int, int, int]]
) -> None:
    domain = np.zeros(SHAPE, bool)
    domain[1:7, 2:7, 0:4] = True  # reaches the image's edge, and out of the smaller box
    domain[3, 3, 3] = False
    origin, size = box
    part = tuple(slice(o, o + n) for o, n in zip(origin, size, strict=True))
    shells = Shells(inside=2, outside=4)
    found = shells.of(Crop(np.zeros((*size, 1), np.float32), origin, 1), domain, spacing)

    padded = np.pad(domain, 1)  # beyond the image there is no lesion
    voxels = np.argwhere(np.ones_like(padded)) * spacing
    inside = padded.ravel()
    distances = np.empty(inside.size)
    distances[inside] = -cdist(voxels[inside], voxels[~inside]).min(1)
    distances[~inside] = cdist(voxels[~inside], voxels[inside]).min(1)
    expected = distances.reshape(padded.shape)[1:-1, 1:-1, 1:-1][part]
    low, high = np.array(shells.bounds)[found].transpose(3, 0, 1, 2)
    outer = expected > 0
    assert ((low < expected + 1e-5) | ~outer).all()
    assert ((expected < high + 1e-5) | ~outer).all()
    assert ((high <= 0) == ~outer).all()
    assert ((low - 1e-5 < expected) & (expected < high + 1e-5)).all()
    assert len(shells.bounds) == len(shells)


def test_sums_are_by_shell() -> None:
    shells = Shells(inside=1, outside=1)
    assert shells.bounds == [(-np.inf, 0), (0, 1), (1, np.inf)]
    found = shells.sums(np.array([0, 2, 2]), np.array([1.0, 2.0, 4.0]))
    np.testing.assert_array_equal(found, [1, 0, 6])
