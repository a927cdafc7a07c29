"""Samples of a lesion's voxels: one per stratum, spread, and the same in whatever order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxsal.saliency.items import consecutive, strata, stratified

voxel_sets = st.sets(
    st.tuples(st.integers(0, 30), st.integers(0, 9), st.integers(0, 4)), min_size=1, max_size=200
).map(lambda positions: np.array(list(positions)))
counts = st.integers(1, 60)


def as_set(positions: np.ndarray) -> set[tuple[int, ...]]:
    return set(map(tuple, positions.tolist()))


def block(*shape: int) -> np.ndarray:
    return np.argwhere(np.ones(shape))


@given(voxel_sets, counts)
def test_one_voxel_is_drawn_from_each_stratum(voxels: np.ndarray, count: int) -> None:
    count = min(count, len(voxels))
    parts = list(strata(voxels, count))
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(len(voxels)))
    sizes = [len(part) for part in parts]
    assert len(sizes) == count
    assert max(sizes) - min(sizes) <= 1
    if count < len(voxels):
        chosen = set(stratified(voxels, count).tolist())
        assert [len(chosen & set(part.tolist())) for part in parts] == [1] * count


@given(voxel_sets, counts)
def test_samples_are_indices_without_repetition(voxels: np.ndarray, count: int) -> None:
    chosen = stratified(voxels, count)
    assert len(chosen) == min(count, len(voxels))
    assert (np.diff(chosen) > 0).all()
    assert chosen[0] >= 0
    assert chosen[-1] < len(voxels)
    np.testing.assert_array_equal(chosen, stratified(voxels, count))


@given(voxel_sets, counts, st.randoms(use_true_random=False))
def test_the_order_of_the_voxels_does_not_matter(
    voxels: np.ndarray, count: int, random: object
) -> None:
    order = list(range(len(voxels)))
    random.shuffle(order)
    shuffled = voxels[order]
    found = as_set(shuffled[stratified(shuffled, count)])
    assert found == as_set(voxels[stratified(voxels, count)])


def test_each_octant_is_covered_in_proportion() -> None:
    voxels = block(16, 16, 16)
    chosen = voxels[stratified(voxels, 64)]
    octants, numbers = np.unique(chosen // 8, axis=0, return_counts=True)
    assert len(octants) == 8
    assert (numbers == 8).all()


def test_a_long_lesion_is_covered_along_its_length() -> None:
    voxels = block(40, 2, 2)
    chosen = voxels[stratified(voxels, 10)]
    np.testing.assert_array_equal(np.unique(chosen[:, 0] // 4), np.arange(10))


def test_the_draw_is_always_the_same() -> None:
    """Maps that were recorded are of these voxels."""
    assert stratified(block(5, 4, 3), 6).tolist() == [10, 22, 26, 33, 38, 46]


@pytest.mark.parametrize("count", [8, 9, 1000])
def test_all_voxels_are_taken_if_as_many_are_wanted(count: int) -> None:
    np.testing.assert_array_equal(stratified(block(2, 2, 2), count), np.arange(8))


@pytest.mark.parametrize(
    ("voxels", "size", "expected"),
    [
        (5, 2, [[0, 1], [2, 3], [4]]),
        (4, 2, [[0, 1], [2, 3]]),
        (3, 1, [[0], [1], [2]]),
        (3, 8, [[0, 1, 2]]),
    ],
)
def test_groups_are_consecutive_voxels(voxels: int, size: int, expected: list[list[int]]) -> None:
    groups = consecutive(block(voxels, 1, 1), size)
    assert [group.tolist() for group in groups] == expected
