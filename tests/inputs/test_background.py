"""What of an image is background: 0, and what processing makes of it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from jaxsal.inputs.background import Background, fills_its_box, find_background

SHAPE = (20, 24, 18)
AXES = np.meshgrid(*[np.linspace(-1, 1, n) for n in SHAPE], indexing="ij")
HEAD = sum(axis**2 for axis in AXES) < 1  # it touches the border


def brain(seed: int = 0) -> np.ndarray:
    """A noisy head, some of its values negative, in a background of 0."""
    values = np.random.default_rng(seed).normal(100, 40, SHAPE)
    return np.where(HEAD, values, 0).astype(np.float32)


def uneven(volume: np.ndarray) -> np.ndarray:
    """Rounding as interpolation leaves it: no two voxels of the background are alike."""
    return volume + 0.002 * np.random.default_rng(1).uniform(-1, 1, SHAPE).astype(np.float32)


@pytest.mark.parametrize(
    ("made", "value"),
    [
        (lambda v: v + np.float32(1.2e-3), 1.2e-3),  # a scale factor that has no 0
        (lambda v: (v - 100) / 40, -2.5),  # z-scored before
        (lambda v: np.clip(v, 30, 150), 30),
        (lambda v: uneven((v - 100) / 40 - 1), -3.5),
    ],
    ids=["scaled", "z-scored", "clipped", "uneven"],
)
def test_a_constant_border_is_background(
    made: Callable[[np.ndarray], np.ndarray], value: float
) -> None:
    image = made(brain())
    mask, found = find_background(image)
    np.testing.assert_array_equal(mask, ~HEAD | (image == np.float32(value)))  # also if clipped
    assert found.value == pytest.approx(value, abs=0.002)
    assert found.voxels == np.count_nonzero(mask)


def test_what_is_exactly_zero_is_background_and_nothing_else() -> None:
    image = brain()
    image[10, 12, 9] = 0  # a hole
    image[HEAD & (AXES[0] > 0.8)] = 1e-4  # edges, as of a mask that was resampled
    mask, found = find_background(image)
    np.testing.assert_array_equal(mask, image == 0)
    assert found == Background(0.0, int(np.count_nonzero(image == 0)))


def test_zeros_around_a_constant_background_belong_to_it() -> None:
    image = (brain() - 100) / 40
    image[:3] = 0
    mask, found = find_background(image)
    expected = ~HEAD | (image == 0)
    np.testing.assert_array_equal(mask, expected)
    assert found.value == -2.5


@pytest.mark.parametrize("by", [1, 4])
def test_zeros_all_around_a_constant_above_zero_belong_to_it(by: int) -> None:
    image = np.pad(brain() + 5, by)
    mask, found = find_background(image)
    np.testing.assert_array_equal(mask, (image == 5) | (image == 0))
    assert found == Background(5.0, int(np.count_nonzero(mask)))


def test_a_single_zero_at_the_border_is_no_other_background() -> None:
    image = brain() + 5
    image[0, 0, 0] = 0
    image[10, 12, 9] = 0  # tissue
    mask, found = find_background(image)
    np.testing.assert_array_equal(mask, ~HEAD)
    assert found.value == 5


@pytest.mark.parametrize("value", [-1.2, 5])
def test_zeros_within_a_frame_of_another_value_are_background(value: float) -> None:
    small = sum(axis**2 for axis in AXES) < 0.4
    image = np.where(small, brain(), 0)
    image = np.pad(image[(slice(2, -2),) * 3], 2, constant_values=np.float32(value))
    image[10, 12, 9] = 0  # tissue
    mask, found = find_background(image)
    small[10, 12, 9] = True
    np.testing.assert_array_equal(mask, ~small)
    assert found.value == np.float32(value)


def test_tissue_that_is_zero_by_chance_is_none_without_zeros_at_the_border() -> None:
    image = (brain() - 100) / 40
    image[10, 12, 9] = 0
    mask, _ = find_background(image)
    assert not mask[10, 12, 9]


@pytest.mark.parametrize(
    "image",
    [
        brain() + np.random.default_rng(2).normal(0, 5, SHAPE),  # a scanner's noise
        np.random.default_rng(3).normal(100, 10, SHAPE),  # cut out of a brain
        np.where(HEAD, np.where(sum(axis**2 for axis in AXES) < 0.6, brain() + 500, 60), 0),
        np.where(HEAD, 3, 0),
        np.full(SHAPE, 3),
    ],
    ids=["noise", "within", "rim", "mask", "flat"],
)
def test_no_other_value_is_taken_for_background(image: np.ndarray) -> None:
    mask, found = find_background(image.astype(np.float32))
    np.testing.assert_array_equal(mask, image == 0)
    assert found.value == 0


def test_a_head_leaves_room_around_it() -> None:
    assert not fills_its_box(HEAD)
    assert fills_its_box(np.ones(SHAPE, bool))
    almost = np.ones(SHAPE, bool)
    almost[:, :, 0] = False  # but for one face it reaches everywhere
    assert fills_its_box(almost)
    assert fills_its_box(np.pad(np.ones(SHAPE, bool), 4))  # within zeros, too
