"""Boxes against the sets of positions that they stand for."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxsal.box import Box

SHAPE = (4, 3, 5)
places = st.tuples(*3 * (st.integers(-2, 6),))
boxes = st.builds(Box, places, places)


def positions(box: Box) -> set[tuple[int, ...]]:
    return set(product(*map(range, box.start, box.stop)))


def mask(box: Box) -> np.ndarray:
    found = np.zeros(SHAPE, bool)
    for position in positions(box) & positions(Box.whole(SHAPE)):
        found[position] = True
    return found


@given(boxes, boxes)
def test_an_intersection_holds_what_is_in_both(a: Box, b: Box) -> None:
    assert positions(a & b) == positions(a) & positions(b)


@given(boxes, boxes)
def test_a_hull_is_the_smallest_box_of_both(a: Box, b: Box) -> None:
    together = sorted(positions(a) | positions(b))
    if together:
        assert a | b == Box.around(np.array(together))
    else:
        assert (a | b).is_empty


@given(boxes, places)
def test_a_shifted_box_holds_the_shifted_positions(box: Box, by: tuple[int, int, int]) -> None:
    moved = {tuple(np.add(position, by)) for position in positions(box)}
    assert positions(box.shift(by)) == moved
    assert box.shift(by).seen_from(by) == box


@given(boxes)
def test_shape_and_emptiness_are_those_of_its_positions(box: Box) -> None:
    assert np.prod(box.shape) == len(positions(box))
    assert box.is_empty == (not positions(box))


@given(boxes)
def test_a_clipped_box_holds_what_lies_in_the_grid(box: Box) -> None:
    inside = box.clip(SHAPE)
    assert positions(inside) == positions(box) & positions(Box.whole(SHAPE))
    assert np.zeros(SHAPE)[inside.slices].shape == inside.shape
    if not box.is_empty:
        assert box.lies_within(SHAPE) == (positions(box) <= positions(Box.whole(SHAPE)))
        assert Box.of(mask(box)) == (None if inside.is_empty else inside)


@given(boxes, st.integers(1, 2))
def test_what_is_placed_is_cut_out_again(box: Box, channels: int) -> None:
    inside = box.clip(SHAPE)
    values = np.random.default_rng(0).random((*inside.shape, channels), np.float32)
    whole = inside.place(values, SHAPE, fill=7)
    assert whole.shape == (*SHAPE, channels)
    assert whole.dtype == np.float32
    np.testing.assert_array_equal(inside.cut(whole), values)
    assert (whole[~mask(inside)] == 7).all()


def test_a_box_is_made_of_arrays_and_of_shapes_with_channels() -> None:
    box = Box.at(np.array([1, 0, 2]), np.zeros((2, 3, 1, 4)).shape)
    assert box == Box((1, 0, 2), (3, 3, 3))
    assert hash(box) == hash(Box(box.start, box.stop))
    assert all(type(n) is int for n in (*box.start, *box.stop))


@pytest.mark.parametrize("start", [(-1, 0, 0), (0, 0, 4)])
def test_a_box_that_leaves_the_grid_is_refused(start: tuple[int, int, int]) -> None:
    box = Box.at(start, (2, 2, 2))
    for use in (lambda: box.cut(np.zeros(SHAPE)), lambda: box.place(np.ones((2, 2, 2)), SHAPE)):
        with pytest.raises(ValueError, match="leaves the grid"):
            use()


def test_values_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"do not fill a box of \(2, 2, 2\)"):
        Box((0, 0, 0), (2, 2, 2)).place(np.ones((1, 2, 2)), SHAPE)


@given(boxes)
def test_positions_beyond_an_array_have_a_value_of_their_own(box: Box) -> None:
    array = np.arange(np.prod(SHAPE)).reshape(SHAPE)
    wider = np.pad(array, 9, constant_values=-1)
    expected = wider[box.shift((9, 9, 9)).slices]
    np.testing.assert_array_equal(box.cut(array, beyond=-1), expected)


def test_what_lies_within_an_array_is_cut_as_a_view() -> None:
    array = np.zeros(SHAPE)
    assert Box((0, 1, 1), (2, 3, 4)).cut(array, beyond=-1).base is array
