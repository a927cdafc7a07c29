"""Mosaics hold all that they are handed, wherever the voxel is."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from jaxsal.locality.boxes import Boxes
from jaxsal.locality.mosaics import Mosaics, blockings_of, readers
from jaxsal.locality.structure import structure_of
from jaxsal.nets.registry import NetworkFunction, config_from_arguments, parameter_shapes

PLAIN = {"in_channels": 2, "out_channels": 2, "norm": "batch"}
WIDE = {**PLAIN, "channels": (32, 64, 128, 256, 512), "strides": (2, 2, 2, 2)}
NETWORKS = {
    "paper's": (WIDE, (96, 96, 96)),
    "paper's, in a window no larger than its boxes": (WIDE, (48, 48, 48)),
    "residual units": (
        {**PLAIN, "channels": (4, 6, 8), "strides": (2, 2), "num_res_units": 2},
        (48, 40, 32),
    ),
    "strides and kernels per axis": (
        {
            **PLAIN,
            "channels": (3, 4, 5),
            "strides": ((1, 2, 3), (2, 2, 1)),
            "kernel_size": (5, 3, 1),
            "num_res_units": 1,
        },
        (48, 40, 36),
    ),
}


@pytest.fixture(scope="module", params=NETWORKS)
def structure(request):
    found = structure_named(request.param)
    assert blockings_of(found)
    return found


def structure_named(name):
    arguments, window = NETWORKS[name]
    config = config_from_arguments("unet", arguments)
    shapes = {
        leaf: jax.ShapeDtypeStruct(shape, "float32")
        for leaf, shape in parameter_shapes(config).items()
    }
    return structure_of(NetworkFunction(config, "float32"), shapes, (1, *window, 2))


def near(structure, edges):
    """Boxes for all voxels, or for those near an edge along some axes."""
    grid = structure.nodes[0].grid
    positions = [np.arange(n) for n in grid]
    return Boxes(
        structure,
        [
            np.minimum(p, n - 1 - p) < n // 4 if edge else p >= 0
            for p, n, edge in zip(positions, grid, edges, strict=True)
        ],
    )


EDGES = [(False,) * 3, (True,) * 3, (True, False, True)]


@pytest.mark.parametrize("edges", EDGES, ids=str)
def test_what_a_node_is_handed_lies_in_its_frame(structure, edges):
    boxes = near(structure, edges)
    mosaics = Mosaics(structure, boxes)
    for node in mosaics.nodes:
        mosaic = mosaics[node]
        for reader in readers(structure, node):
            origin, length, _ = mosaics.arrival(reader, node)
            for axis, served in enumerate(boxes.allowed):
                begins = (origin[axis] - mosaic.origin[axis])[served]
                assert begins.min() >= 0
                assert (begins + length[axis]).max() <= mosaic.length[axis]
                size = mosaic.blocks[axis] * mosaic.blocking.factor[axis]
                assert mosaic.length[axis] <= size


@pytest.mark.parametrize("edges", EDGES, ids=str)
def test_frames_lie_in_the_layout_which_is_that_of_all_boxes(structure, edges):
    boxes = near(structure, edges)
    mosaics = Mosaics(structure, boxes)
    for node in mosaics.nodes:
        mosaic, grid = mosaics[node], structure.nodes[node].grid
        for axis, (factor, phase, low, high) in enumerate(zip(*mosaic.blocking, strict=True)):
            origin = mosaic.origin[axis][boxes.allowed[axis]]
            assert origin.min() >= low
            assert origin.max() + mosaic.blocks[axis] * factor <= high
            assert ((origin - phase) % factor == 0).all()
            assert (low - phase) % factor == (high - phase) % factor == 0
            assert low <= 0
            assert high >= grid[axis]


def test_blocks_of_the_paper_s_network_fill_the_lanes():
    blockings = blockings_of(structure_named("paper's"))
    assert {node: blocking.factor for node, blocking in blockings.items()} == {
        0: (4, 4, 4),  # 128 = 64 · 2 channels
        1: (2, 2, 2),  # 256 = 8 · 32
        2: (1, 1, 1),
        3: (1, 1, 1),
    }
