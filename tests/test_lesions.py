"""Lesion instances against hand-worked volumes and an independent flood fill."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from jaxsal.box import Box
from jaxsal.errors import InputError
from jaxsal.grid import Grid
from jaxsal.lesions import components, instances_of, label_lesions, select
from jaxsal.volumes import read_mask, read_volume

SHAPE = (12, 10, 8)
LAS = np.array([[-1.0, 0, 0, 90], [0, 1, 0, -126], [0, 0, 1, -72], [0, 0, 0, 1]])
GRID = Grid(SHAPE, LAS)


def _rows(*rows: tuple[int, int, int]) -> np.ndarray:
    """A mask with rows along X: (y, z, length), each beginning at x = 1."""
    mask = np.zeros(SHAPE, bool)
    for y, z, length in rows:
        mask[1 : 1 + length, y, z] = True
    return mask


def _flood_fill(mask: np.ndarray) -> list[set[tuple[int, ...]]]:
    """Components in scan order; neighbours differ by at most one in each axis, in two at most."""
    left = {tuple(map(int, voxel)) for voxel in np.argwhere(mask)}
    steps = [s for s in np.ndindex(3, 3, 3) if 1 <= sum(i != 1 for i in s) <= 2]
    found = []
    for seed in sorted(left):
        if seed not in left:
            continue
        left.discard(seed)
        component, waiting = {seed}, [seed]
        while waiting:
            x, y, z = waiting.pop()
            for i, j, k in steps:
                neighbour = (x + i - 1, y + j - 1, z + k - 1)
                if neighbour in left:
                    left.discard(neighbour)
                    component.add(neighbour)
                    waiting.append(neighbour)
        found.append(component)
    return found


@settings(max_examples=60, deadline=None, derandomize=True)
@for_all(
    st.integers(0, 4),
    arrays(bool, array_shapes(min_dims=3, max_dims=3, max_side=6), elements=st.booleans()),
    st.sampled_from("CF"),
)
def test_components_equal_a_flood_fill(smallest, mask, order):
    labels = components(np.asarray(mask, order=order), 2.0, minimum_volume=2.0 * smallest)
    kept = [component for component in _flood_fill(mask) if len(component) > smallest]
    assert labels.dtype == np.int32
    assert labels.max(initial=0) == len(kept)
    for label, component in enumerate(kept, start=1):
        assert {tuple(map(int, voxel)) for voxel in np.argwhere(labels == label)} == component


@pytest.mark.parametrize(
    ("second", "count"),
    [((1, 0, 0), 1), ((1, 1, 0), 1), ((0, 1, 1), 1), ((1, 1, 1), 2), ((2, 0, 0), 2)],
    ids=["face", "edge", "other edge", "corner", "apart"],
)
def test_voxels_connect_by_faces_and_edges_only(second, count):
    mask = np.zeros((3, 3, 3), bool)
    mask[0, 0, 0] = mask[second] = True
    assert components(mask, 1.0, 0).max() == count


@pytest.mark.parametrize(
    ("voxel_volume", "minimum", "kept"),
    [
        (1.0, 5.0, [6, 9]),
        (1.0000001, 5.0, [6, 9]),
        (0.9999999, 5.0, [6, 9]),
        (0.5, 5.0, []),
        (0.6, 5.0, [9]),
        (1.1, 5.0, [5, 6, 9]),
        (8.0, 5.0, [1, 5, 6, 9]),
        (1.0, 0.0, [1, 5, 6, 9]),
    ],
)
def test_the_minimum_volume_is_in_mm3_and_exclusive(voxel_volume, minimum, kept):
    mask = _rows((0, 0, 1), (2, 0, 5), (4, 0, 6), (6, 0, 9))
    labels = components(mask, voxel_volume, minimum)
    assert np.bincount(labels.ravel())[1:].tolist() == kept


def test_five_voxels_stay_too_few_on_an_oblique_grid_of_one_mm(tmp_path):
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(0.3), -np.sin(0.3)], [np.sin(0.3), np.cos(0.3)]]
    mask = _rows((2, 0, 5), (4, 0, 6))
    nib.Nifti1Image(mask.astype(np.uint8), turn).to_filename(tmp_path / "mask.nii")
    volume = read_volume(tmp_path / "mask.nii")
    _, instances = label_lesions(volume.data != 0, volume.grid)
    assert [instance.voxels for instance in instances] == [6]


def test_lesions_without_a_reference_are_predicted():
    segmented = _rows((2, 1, 6))
    labels, (lesion,) = label_lesions(segmented, GRID)
    assert labels.dtype == np.int32
    np.testing.assert_array_equal(labels, segmented)
    assert (lesion.label, lesion.kind, lesion.voxels) == (1, "predicted", 6)


def test_an_image_without_lesions_has_no_instances():
    for reference in (None, np.zeros(SHAPE, bool)):
        labels, instances = label_lesions(np.zeros(SHAPE, bool), GRID, reference)
        assert instances == []
        assert not labels.any()


def test_kinds_against_a_reference():
    predicted = _rows((0, 0, 6), (3, 0, 7), (6, 0, 8))
    # Touches the 7 voxels in one; two are apart, of which one is too small.
    reference = np.zeros(SHAPE, bool)
    reference[7, 3, 0] = True
    reference |= _rows((0, 4, 9), (3, 4, 5))
    labels, instances = label_lesions(predicted, GRID, reference)
    found = [(lesion.label, lesion.kind, lesion.voxels) for lesion in instances]
    assert found == [(1, "FP", 6), (2, "TP", 7), (3, "FP", 8), (4, "FN", 9)]
    rows = {1: (0, 0, 6), 2: (3, 0, 7), 3: (6, 0, 8), 4: (0, 4, 9)}
    for label, row in rows.items():
        np.testing.assert_array_equal(labels == label, _rows(row))


@pytest.mark.parametrize(("reached", "kinds"), [(0, ["FN"]), (1, []), (5, []), (6, ["TP"])])
def test_a_lesion_is_missed_only_if_none_of_its_voxels_is_segmented(reached, kinds):
    reference = _rows((2, 1, 8))
    segmented = np.zeros(SHAPE, bool)
    segmented[1 : 1 + reached, 2, 1] = True
    labels, instances = label_lesions(segmented, GRID, reference)
    assert [lesion.kind for lesion in instances] == kinds
    assert (labels > 0).sum() == sum(lesion.voxels for lesion in instances)


def _overlaps(segmented, reference, minimum):
    """TP, FP and FN by sets of voxels, lesion by lesion."""
    found, true = _flood_fill(segmented), _flood_fill(reference)
    hit = [bool(part & set().union(*true)) for part in found if len(part) > minimum]
    missed = [not part & set().union(*found) for part in true if len(part) > minimum]
    return sum(hit), len(hit) - sum(hit), sum(missed)


@settings(max_examples=60, deadline=None, derandomize=True)
@for_all(st.integers(0, 4), st.integers(0, 2**32 - 1))
def test_kinds_equal_those_counted_lesion_by_lesion(minimum, seed):
    rng = np.random.default_rng(seed)
    segmented, reference = rng.random((6, 6, 6)) >= 0.9, rng.random((6, 6, 6)) > 0.85
    labels, instances = label_lesions(segmented, Grid((6, 6, 6), LAS), reference, minimum)
    kinds = [lesion.kind for lesion in instances]
    counts = tuple(kinds.count(kind) for kind in ("TP", "FP", "FN"))
    assert counts == _overlaps(segmented, reference, minimum)
    sizes = np.bincount(labels.ravel())[1:]  # no lesion takes a voxel from another
    assert sizes.tolist() == [lesion.voxels for lesion in instances]


def test_measures_are_in_mm_and_world_coordinates():
    grid = Grid(SHAPE, LAS @ np.diag([2.0, 1.0, 0.5, 1.0]))
    labels = np.zeros(SHAPE, np.int32)
    labels[2:4, 3, 4:7] = 9
    (lesion,) = instances_of(labels, grid)
    assert lesion.voxels == 6
    assert lesion.volume_mm3 == 6.0
    # Centre of the voxels: index (2.5, 3, 5); x = 90 - 2 * 2.5, y = -126 + 3, z = -72 + 0.5 * 5.
    assert lesion.centroid_mm == (85.0, -123.0, -69.5)
    assert lesion.box == Box((2, 3, 4), (4, 4, 7))
    metres = nib.Nifti1Header()
    metres.set_xyzt_units("meter")
    (same,) = instances_of(
        labels, Grid(SHAPE, np.diag([1e-3, 1e-3, 1e-3, 1]) @ grid.affine, metres)
    )
    np.testing.assert_allclose(same.centroid_mm, lesion.centroid_mm)
    np.testing.assert_allclose(same.volume_mm3, lesion.volume_mm3)


def test_given_labels_are_kept_even_if_scattered():
    labels = np.zeros(SHAPE, np.int32)
    labels[0, 0, 0] = labels[4, 2, 6] = 2_000_000_000
    labels[5, 5, 5] = 3
    first, second = instances_of(labels, GRID)
    assert (first.label, first.kind, first.voxels) == (3, "given", 1)
    assert (second.label, second.kind, second.voxels) == (2_000_000_000, "given", 2)
    assert second.centroid_mm == (88.0, -125.0, -69.0)
    assert second.box == Box((0, 0, 0), (5, 3, 7))


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (np.full(SHAPE, -4), "smallest value -4"),
        (np.full(SHAPE, 0.5), "float64"),
        (np.zeros((12, 10, 9), int), r"\(12, 10, 8\), received \(12, 10, 9\)"),
    ],
)
def test_given_refuses_what_is_no_label_map(labels, said):
    with pytest.raises(InputError, match=said):
        instances_of(labels, GRID)


def test_refuses_arrays_off_the_grid():
    with pytest.raises(InputError, match=r"segmented .* received \(2, 2, 2\)"):
        label_lesions(np.zeros((2, 2, 2), bool), GRID)
    with pytest.raises(InputError, match=r"reference .* received \(2, 2, 2\)"):
        label_lesions(np.zeros(SHAPE, bool), GRID, np.zeros((2, 2, 2)))


LABELLED = np.arange(np.prod(SHAPE), dtype=np.int32).reshape(SHAPE)


@pytest.mark.parametrize(
    ("wanted", "chosen"), [([3, 7], [3, 7]), ([7, 3, 7], [3, 7]), ([], []), ((959,), [959])]
)
def test_selects_wanted_labels_once_and_in_order(wanted, chosen):
    assert [lesion.label for lesion in select(instances_of(LABELLED, GRID), wanted)] == chosen


def test_selects_all_by_default():
    instances = instances_of(LABELLED, GRID)
    assert select(instances, None) == instances


@pytest.mark.parametrize("wanted", [[0], [1000], [3, 1000], [-1]])
def test_unknown_labels_are_refused_with_what_there_is(wanted):
    unknown = next(label for label in wanted if label != 3)
    with pytest.raises(InputError, match=rf"label {unknown}\. .* 1, 2, 3, .*, 959 \(959 in all\)"):
        select(instances_of(LABELLED, GRID), wanted)
    with pytest.raises(InputError, match=r"Available: none\."):
        select([], wanted)


@pytest.mark.parametrize(
    ("patient", "count", "volume", "largest"),
    [("patient07", 38, 1300, 210), ("patient19", 102, 49769, 46683)],
)
def test_counts_real_lesions(shared, patient, count, volume, largest):
    folder = shared / "data" / patient
    grid = read_volume(folder / "GOLD.nii.gz").grid
    mask = read_mask(folder / "GOLD.nii.gz", grid)
    labels, all_lesions = label_lesions(mask, grid, mask, minimum_volume=0)
    volumes = [lesion.volume_mm3 for lesion in all_lesions]
    assert (len(volumes), sum(volumes), max(volumes)) == (count, volume, largest)
    assert {lesion.kind for lesion in all_lesions} == {"TP"}
    kept = label_lesions(mask, grid)[1]
    assert [lesion.voxels for lesion in kept] == [v for v in volumes if v > 5]
    assert labels.max() == count
