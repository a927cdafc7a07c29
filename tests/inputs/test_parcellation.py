"""Parcellations: brought to a scan by nearest neighbour, named, or refused."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from helpers.tiny import SHAPE, TinyScan, oblique_affine, save
from nibabel.processing import resample_from_to
from scipy.spatial import cKDTree

from jaxsal.box import Box
from jaxsal.errors import InputError
from jaxsal.grid import Grid
from jaxsal.inputs.entries import Scan
from jaxsal.inputs.parcellation import (
    NOWHERE,
    Parcellation,
    nearest,
    read_parcellation,
    read_region_names,
)
from jaxsal.volumes import read_grid

GRID = Grid(SHAPE, oblique_affine())
BRAIN = np.ones(SHAPE, bool)


def turned_affine() -> np.ndarray:
    """Another grid in the world of the tiny scan: other axes, voxel sizes and place, (4, 4)."""
    affine = np.array([[0, 1.7, 0.2, 0], [0.1, 0, 1.9, 0], [-1.4, 0, 0, 0], [0, 0, 0, 1.0]])
    centre = GRID.world(np.array(SHAPE) / 2)
    affine[:3, 3] = centre - affine[:3, :3] @ [15.2, 11.3, 14.4]
    return affine


@pytest.fixture(scope="module")
def turned() -> tuple[np.ndarray, Grid]:
    labels = np.random.default_rng(0).integers(0, 9, (30, 22, 28)).astype(np.int32)
    return labels, Grid(labels.shape, turned_affine())


def test_each_voxel_has_the_label_of_the_nearest_one(turned: tuple[np.ndarray, Grid]) -> None:
    labels, own = turned
    found = nearest(labels, own, GRID)
    images = nib.Nifti1Image(labels, own.affine), (SHAPE, GRID.affine)
    peer = np.asanyarray(resample_from_to(*images, order=0).dataobj)  # 0 off the outer centres
    np.testing.assert_array_equal(found[peer != 0], peer[peer != 0])
    assert np.mean(peer != 0) > 0.7


@pytest.mark.parametrize("axes", ["RAS", "PSL"])
def test_labels_come_to_grids_in_other_axes(axes: str) -> None:
    """By distance in mm, which for cubes is that in voxels, to their centres."""
    labels = np.random.default_rng(1).integers(1, 99, (7, 6, 5)).astype(np.int32)
    own = Grid(labels.shape, np.diag([3.0, 3.0, 3.0, 1.0]))
    affine = np.diag([-1.7, 2.1, 1.9, 1.0])
    affine[:3, 3] = 17.1, -2, 0.3
    grid = Grid((10, 9, 8), affine).in_axes(axes)
    places = np.argwhere(np.ones(grid.shape, bool))
    tree = cKDTree(own.world(np.argwhere(labels)))
    _, which = tree.query(grid.world(places))
    apart = np.abs(tree.data[which] - grid.world(places)).max(1)
    expected = np.where(apart <= 1.5, labels.ravel()[which], 0)
    np.testing.assert_array_equal(nearest(labels, own, grid).ravel(), expected)
    assert 0 < np.count_nonzero(expected == 0) < expected.size


def test_regions_are_on_the_scan_s_grid_and_the_network_s(
    turned: tuple[np.ndarray, Grid], tmp_path: Path
) -> None:
    labels, own = turned
    path = save(tmp_path / "regions.nii.gz", labels, own.affine)
    network = GRID.in_axes("RSP").with_voxels(Box((2, 1, 3), (22, 18, 26)), (25, 12, 23))
    brain = np.ones(network.scan.shape, bool)
    found = read_parcellation(path, None, network, brain)
    stored = read_grid(path)
    np.testing.assert_array_equal(found.labels, nearest(labels, stored, network.scan))
    np.testing.assert_array_equal(found.on_network, nearest(labels, stored, network))
    assert found.on_network.shape == network.shape


def test_a_parcellation_on_the_scan_s_grid_is_taken_as_it_is(tmp_path: Path) -> None:
    labels = np.random.default_rng(2).integers(0, 3000, SHAPE).astype(np.float32)  # whole numbers
    path = save(tmp_path / "regions.nii.gz", labels)
    found = read_parcellation(path, None, read_grid(path), BRAIN)
    np.testing.assert_array_equal(found.labels, labels)
    assert found.on_network is found.labels


def test_a_lesion_s_region_is_that_of_most_of_its_voxels() -> None:
    lesions = np.array([1, 1, 1, 2, 2, 3, 3, 3, 4, 4, 5, 5, 5, 5, 5, 0])[:, None, None]
    regions = np.array([7, 9, 9, 9, 7, 0, 0, 7, 0, 8, 0, 0, 9, 9, 7, 7])[:, None, None]
    found = Parcellation(regions, regions, {7: "left", 9: "right"}).regions_of(lesions)
    # 2: the lower label of equal ones; 3: most in none; 4: half in none; 5: most of those in any
    assert found == {1: "right", 2: "left", 3: None, 4: "8", 5: "right"}


def test_lesions_without_a_voxel_in_a_region_have_none() -> None:
    assert Parcellation(np.zeros((2, 1, 1), int), np.zeros(0), {}).regions_of(
        np.array([3, 0])[:, None, None]
    ) == {3: None}


@pytest.mark.parametrize("header", ["index\tname", "Label\tcolour\tName"])
def test_names_are_read_by_index_or_label(header: str, tmp_path: Path) -> None:
    between = "\tred" if "colour" in header else ""
    path = tmp_path / "names.tsv"
    path.write_text(f"{header}\n7{between}\tLinker Thalamus\n\n9{between}\tPons\n", "utf-8")
    names = read_region_names(path)
    assert names == {7: "Linker Thalamus", 9: "Pons"}
    regions = Parcellation(np.zeros((1, 1, 1)), np.zeros((1, 1, 1)), names)
    assert [regions.name(label) for label in (0, 7, 8)] == [NOWHERE, "Linker Thalamus", "8"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a column name; it has none"),
        ("index\tregion\n1\tPons\n", "it has index, region"),
        ("index\tname\n1\tPons\n1\tThalamus\n", "line 3: the label 1 is there twice"),
        ("index\tname\n1\tPons\n2\tPons\n", "line 3: the name 'Pons' is taken"),
        ("index\tname\n1.5\tPons\n", "line 2: the label must be a whole number, got '1.5'"),
        ("index\tname\n1\n", "line 2: the label 1 has no name"),
        ("index\tname\n3\tPons\n", "no name of the label 1, 2: add"),
        (None, "cannot be read"),
    ],
)
def test_names_that_are_none_are_refused(text: str | None, message: str, tmp_path: Path) -> None:
    labels = np.zeros(SHAPE, np.uint8)
    labels[:4], labels[4:9] = 1, 2
    path, names = save(tmp_path / "regions.nii.gz", labels), tmp_path / "names.tsv"
    if text is not None:
        names.write_text(text)
    with pytest.raises(InputError, match=r"names\.tsv") as error:
        read_parcellation(path, names, read_grid(path), BRAIN)
    assert message in str(error.value)


def elsewhere(millimetres: float) -> np.ndarray:
    affine = oblique_affine()
    affine[0, 3] += millimetres
    return affine


@pytest.mark.parametrize(
    ("labels", "affine", "message"),
    [
        (np.full(SHAPE, 0.5, np.float32), elsewhere(0), "must be whole"),
        (np.full(SHAPE, -1, np.int16), elsewhere(0), "must be non-negative"),
        (np.zeros(SHAPE, np.uint8), elsewhere(0), "it is 0 everywhere"),
        (np.ones(SHAPE, np.uint8), elsewhere(60), "0 % of the brain lies in its field of view"),
        (np.ones(SHAPE, np.uint8), elsewhere(60), "the origin differs by 60 mm in x"),
        (np.ones(SHAPE, np.uint8), elsewhere(5), "and 95 % must"),
        (np.eye(24, 28, dtype=np.uint8)[..., None] * np.ones(20, np.uint8), elsewhere(0), "inside"),
    ],
    ids=["fractions", "negative", "empty", "other world", "what differs", "cut off", "off brain"],
)
def test_what_is_no_parcellation_of_the_scan_is_refused(
    labels: np.ndarray, affine: np.ndarray, message: str, tmp_path: Path, scan: TinyScan
) -> None:
    path, brain = save(tmp_path / "regions.nii.gz", labels, affine), BRAIN
    if message == "inside":
        brain = labels == 0
    with pytest.raises(InputError, match=message):
        read_parcellation(path, None, read_grid(scan.flair), brain)


def test_names_need_regions() -> None:
    with pytest.raises(InputError, match="give a parcellation, too"):
        Scan((Path("flair.nii"),), region_names=Path("names.tsv"))
