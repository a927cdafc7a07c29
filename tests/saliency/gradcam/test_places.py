"""Heat maps lie where what they show lies in the image."""

from __future__ import annotations

import numpy as np
import pytest

from jaxsal import Model, gradcam
from jaxsal.locality.places import Places, places_of
from jaxsal.nets.registry import config_from_arguments
from jaxsal.saliency.gradcam.maps import WindowMap

SHAPE = (40, 54, 16)
VOXEL = (16, 24, 7)  # where cells of all levels lie, so that none is brightened from one side
STRIDES = ((2, 3, 1), (4, 2, 1))
LAYERS = ("encoder.0", "encoder.1", "bottleneck", "decoder.1.joined", "decoder.1")
IMAGE = np.zeros((*SHAPE, 1), np.float32)
IMAGE[VOXEL] = 1


@pytest.fixture(scope="module")
def averaging() -> Model:
    """A U-Net of constant kernels, without biases."""
    arguments = {"in_channels": 1, "out_channels": 2, "channels": (1,) * 3, "strides": STRIDES}
    config = config_from_arguments("unet", {**arguments, "kernel_size": (3, 5, 3), "norm": None})
    model = Model.initialise(config, ("flair",))
    constant = {
        name: np.full(value.shape, 0 if name.endswith("bias") else 0.1, np.float32)
        for name, value in model.parameters.items()
    }
    return Model(config, constant, model.channels)


def centre(values: np.ndarray) -> np.ndarray:
    grid = np.indices(values.shape).reshape(3, -1)
    return grid @ values.ravel().astype(float) / values.sum(dtype=float)


def test_a_bright_voxel_is_shown_in_its_place_at_every_level(averaging: Model) -> None:
    _, activations = averaging.activations(IMAGE[None])
    for layer in LAYERS:
        values = np.asarray(activations[layer][0].sum(-1))
        cells = places_of(averaging.function, averaging.parameters, IMAGE.shape, layer)
        x, y, z = values.shape
        shown = WindowMap(values, (0, 0, 0), (x, y, z), (0, 0, 0), SHAPE, places=cells)
        found, box = shown.on_image(SHAPE)
        at = centre(found) + box.start
        np.testing.assert_allclose(at, VOXEL, atol=0.05, err_msg=layer)


def test_by_half_pixel_alignment_it_is_shown_beside_it(averaging: Model) -> None:
    """By half a cell less half a voxel: what the other alignment is there to mend."""
    everywhere = np.ones(SHAPE, np.int32)
    for alignment, shift in (("receptive-field", (0, 0, 0)), ("half-pixel", (3.5, 2.5, 0))):
        maps = gradcam(averaging, IMAGE, everywhere, layer="bottleneck", alignment=alignment)
        np.testing.assert_allclose(centre(maps.dense(1)), np.add(VOXEL, shift), atol=0.05)


def test_beyond_the_outermost_cells_their_values_go_on() -> None:
    """Cells at -1, 2, 5 of a window of eight, of which the map fills the last."""
    one = np.ones((1, 1, 1), np.float32)
    cells = Places((3, 1, 1), (-1, 0, 0))
    shown = WindowMap(one, (2, 0, 0), (3, 1, 1), (10, 0, 0), (8, 1, 1), places=cells)
    found, box = shown.on_image((40, 1, 1))
    np.testing.assert_array_equal(box.start, (13, 0, 0))
    np.testing.assert_allclose(found[:, 0, 0], [1 / 3, 2 / 3, 1, 1, 1], rtol=1e-6)
