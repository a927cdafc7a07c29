"""From a scan's grid to the network's and back: what lies where stays there, in the world."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from helpers.tiny import oblique_affine
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from jaxsal.box import Box
from jaxsal.errors import InputError
from jaxsal.grid import Grid
from jaxsal.network_grid import (
    labels_on_network,
    map_on_grid,
    network_shape,
    require_permitted,
    spacing_of,
)
from jaxsal.resampling import PERMITS, Permit, Resampling
from jaxsal.volumes import read_labels, read_volume, write_volume

SHAPE = (20, 16, 12)
PART = Box((2, 0, 3), (17, 13, 11))
NEW = (12, 17, 9)


def grid(axes: str = "LAS") -> Grid:
    return Grid(SHAPE, oblique_affine()).in_axes(axes)


@pytest.mark.parametrize("axes", ["LAS", "RAS", "PSR"])
def test_the_networks_grid_covers_the_same_box(axes: str) -> None:
    scan = grid(axes)
    part = Box((1, 2, 3), np.subtract(scan.shape, 2))
    network = scan.with_voxels(part, NEW)
    assert (network.scan, network.part, network.shape, network.axes) == (scan, part, NEW, axes)
    low, high = np.array(part.start) - 0.5, np.array(part.stop) - 0.5
    np.testing.assert_allclose(network.world([-0.5] * 3), scan.world(low), atol=1e-4)
    np.testing.assert_allclose(network.world(np.array(NEW) - 0.5), scan.world(high), atol=1e-4)
    assert network.voxel_volume * np.prod(NEW) == pytest.approx(
        scan.voxel_volume * np.prod(part.shape), rel=1e-5
    )


@pytest.mark.parametrize("code", ["sform", "qform", "neither"])
def test_files_on_the_networks_grid_state_where_it_lies(code: str, tmp_path: Path) -> None:
    affine = np.diag([0.7, 0.7, 3.0, 1.0]) if code == "neither" else oblique_affine()
    image = nib.Nifti1Image(np.zeros(SHAPE, np.float32), affine)
    image.set_sform(affine, code="scanner" if code == "sform" else 0)
    image.set_qform(affine, code="scanner" if code == "qform" else 0)
    nib.save(image, tmp_path / "scan.nii.gz")
    network = read_volume(tmp_path / "scan.nii.gz").grid.with_voxels(PART, NEW)
    write_volume(tmp_path / "map.nii.gz", np.zeros(NEW, np.float32), network)
    found = nib.load(tmp_path / "map.nii.gz")
    np.testing.assert_allclose(found.affine, network.affine, atol=1e-5)
    zooms = np.linalg.norm(network.affine[:3, :3], axis=0)
    np.testing.assert_allclose(found.header.get_zooms(), zooms, rtol=1e-5)


@given(st.tuples(*3 * [st.integers(6, 30)]), st.integers(0, 10**6))
def test_a_bright_voxel_stays_within_half_a_voxel_of_its_place(
    new: tuple[int, int, int], seed: int
) -> None:
    scan = Grid(SHAPE, np.diag([0.7, 0.7, 3.0, 1.0]))
    network = scan.with_voxels(Box.whole(SHAPE), new)
    voxel = np.random.default_rng(seed).integers(0, new)
    values = np.zeros((*new, 1), np.float32)
    values[tuple(voxel)] = 1
    found, box = map_on_grid(values, network, scan)
    dense = box.place(found, SHAPE)[..., 0]
    if dense.any():  # a scan of longer voxels may have none in the reach of this one
        brightest = np.argwhere(dense == dense.max()).mean(0)
        apart = np.abs(scan.world(brightest) - network.world(voxel))
        assert (apart <= (np.array(scan.spacing) + network.spacing) / 2 + 1e-4).all()


def test_maps_are_interpolated_trilinearly() -> None:
    scan, values = Grid(SHAPE, np.eye(4)), np.random.default_rng(0).standard_normal((*NEW, 2), "f4")
    own = scan.with_voxels(PART, NEW)
    found, box = map_on_grid(values, own, scan)
    scale = np.divide(PART.shape, NEW)
    voxels = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), axis=-1)
    places = (voxels - PART.start + 0.5) / scale - 0.5
    expected = [
        ndimage.map_coordinates(v, np.moveaxis(places, -1, 0), order=1, mode="grid-constant")
        for v in np.moveaxis(values.astype(float), -1, 0)
    ]
    np.testing.assert_allclose(box.place(found, SHAPE), np.stack(expected, axis=-1), atol=1e-5)


@given(st.tuples(*3 * [st.integers(2, 30)]), st.integers(0, 10**6))
def test_no_label_is_lost(new: tuple[int, int, int], seed: int) -> None:
    labels = np.zeros(SHAPE, np.int32)
    middle = np.random.default_rng(seed).integers(1, np.subtract(SHAPE, 2))
    labels[tuple(middle)] = 5
    network = Grid(SHAPE, np.eye(4)).with_voxels(Box.whole(SHAPE), new)
    found = np.argwhere(labels_on_network(labels, network) == 5)
    assert len(found)
    apart = np.abs(network.world(found.mean(0)) - middle)
    assert (apart <= (np.array(network.spacing) + 1) / 2 + 1e-4).all()


def test_labels_are_those_of_the_nearest_voxel() -> None:
    labels = np.arange(8, dtype=np.int32).reshape(2, 2, 2)
    network = Grid((2, 2, 2), np.eye(4)).with_voxels(Box.whole((2, 2, 2)), (4, 4, 4))
    expected = labels.repeat(2, 0).repeat(2, 1).repeat(2, 2)
    np.testing.assert_array_equal(labels_on_network(labels, network), expected)


def test_label_maps_are_read_from_the_scans_grid_and_the_networks(tmp_path: Path) -> None:
    scan = grid("PSR")
    network = scan.with_voxels(Box.whole(scan.shape), (18, 11, 24))
    labels = np.zeros(scan.shape, np.int32)
    labels[3:7, 4:9, 5:9] = 2
    write_volume(tmp_path / "scan.nii.gz", labels, scan)
    found = read_labels(tmp_path / "scan.nii.gz", network)
    np.testing.assert_array_equal(found, labels_on_network(labels, network))
    write_volume(tmp_path / "network.nii.gz", found, network)
    np.testing.assert_array_equal(read_labels(tmp_path / "network.nii.gz", network), found)
    write_volume(tmp_path / "other.nii.gz", labels[1:], scan.crop((1, 0, 0), labels[1:].shape))
    with pytest.raises(InputError, match=r"other\.nii\.gz and the images must lie on one grid"):
        read_labels(tmp_path / "other.nii.gz", network)


@pytest.mark.parametrize("permit", PERMITS)
def test_scans_are_resampled_as_far_as_is_permitted(permit: Permit) -> None:
    scan = Grid(SHAPE, np.diag([2.2, 2.2, 1.9, 1.0]))
    rules, whole = Resampling(), Box.whole(SHAPE)
    assert network_shape(scan, whole, None, rules) == SHAPE
    assert network_shape(scan, whole, (1.1, 1.1, 1.9), rules) == (40, 32, 12)
    for wanted, permits in (
        ((2.2, 2.21, 1.9), PERMITS),
        ((1.1, 1.1, 1.9), ("moderate", "any")),
        ((1.0, 1.0, 1.0), ("any",)),
    ):
        if permit in permits:
            require_permitted(scan, wanted, rules, permit)
        else:
            with pytest.raises(InputError, match=r"mm and the image has 2\.2 × 2\.2 × 1\.9 mm"):
                require_permitted(scan, wanted, rules, permit)


def test_voxel_sizes_are_those_that_the_header_states() -> None:
    affine = oblique_affine()
    image = nib.Nifti1Image(np.zeros(SHAPE, np.float32), affine)
    turned = Grid(SHAPE, affine, image.header).in_axes("SRA")
    assert spacing_of(turned) == tuple(map(float, np.float32([1.2, 1.0, 0.9])))
    image.header["pixdim"][1:4] = 5  # not of this affine
    assert spacing_of(Grid(SHAPE, affine, image.header)) == pytest.approx((1.0, 0.9, 1.2))
