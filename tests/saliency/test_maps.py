"""Maps that are stored where they can be other than zero."""

from __future__ import annotations

import numpy as np
import pytest

from jaxsal.box import Box
from jaxsal.saliency.maps import Crop, SaliencyMaps


@pytest.mark.parametrize("start", [(4, 5, 6), (3, 6, 5), (5, 3, 7), (0, 0, 0), (9, 9, 9)], ids=str)
def test_a_map_on_a_box_is_zero_beyond_its_crop(start: tuple[int, int, int]) -> None:
    values = np.random.default_rng(0).normal(size=(3, 4, 2, 2)).astype(np.float32)
    crop, box = Crop(values, (4, 5, 6), 1), Box.at(start, (3, 2, 4))
    whole = np.zeros((14, 14, 14, 2), np.float32)
    whole[crop.box.slices] = values
    np.testing.assert_array_equal(crop.on(box), whole[box.slices])


def test_a_notebook_shows_maps_on_one_line() -> None:
    crop = Crop(np.zeros((3, 4, 2, 2), np.float32), (4, 5, 6), 1)
    maps = SaliencyMaps({3: crop, 7: crop}, (14, 14, 14))
    assert repr(crop) == "Crop(origin (4, 5, 6), shape (3, 4, 2), 2 channels)"
    assert repr(maps) == "SaliencyMaps(2 labels, shape (14, 14, 14), 2 channels)"
    assert repr(SaliencyMaps({}, (14, 14, 14))) == "SaliencyMaps(0 labels, shape (14, 14, 14))"
