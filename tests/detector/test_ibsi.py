"""The IBSI's digital phantom: the reference values and the matrix that the manual publishes."""

from __future__ import annotations

import numpy as np
import pytest

from jaxsal.detector.ibsi import (
    BINS,
    FIRST_ORDER,
    TEXTURE,
    co_occurrence,
    discretised,
    first_order,
    texture,
)

# Slices along z, rows along y, grey levels along x; a dot is outside the region.
SLICES = (
    "14411 14611 41641 44641",
    "14411 11611 .1311 44611",
    "144.. 11111 11.11 11611",
    "144.. 11111 11111 11611",
)
PHANTOM = np.array(
    [[[0 if c == "." else int(c) for c in row] for row in part.split()] for part in SLICES]
)
INSIDE = PHANTOM > 0

# Table "Merged grey-level co-occurrence matrix extracted volumetrically (3D)".
MERGED = {
    **{(1, 1): 536, (1, 3): 14, (1, 4): 105, (1, 6): 61, (3, 4): 5, (3, 6): 6},
    **{(4, 4): 64, (4, 6): 28, (6, 6): 16},
}
# "dig. phantom" in the manual's tables, consensus "very strong"; texture: "3D, merged".
REFERENCE = {
    **{"energy": 567, "entropy": 1.27, "skewness": 1.08, "kurtosis": -0.355},
    **{"p10": 1, "p50": 1, "p90": 4},
    **{"contrast": 5.12, "correlation": 0.183, "homogeneity": 0.688},
}


def half_of_the_last_digit(value: float) -> float:
    """The manual gives three significant digits."""
    return 0.5 * 10 ** (np.floor(np.log10(abs(value))) - 2)


def test_the_phantom_has_its_published_matrix() -> None:
    found = co_occurrence(PHANTOM)
    expected = np.zeros((6, 6), int)
    for (first, second), count in MERGED.items():
        expected[first - 1, second - 1] = expected[second - 1, first - 1] = count
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("name", sorted(REFERENCE))
def test_the_phantom_has_its_published_values(name: str) -> None:
    found = first_order(PHANTOM[INSIDE], PHANTOM[INSIDE]) | texture(PHANTOM)
    assert found[name] == pytest.approx(REFERENCE[name], abs=half_of_the_last_digit(found[name]))
    assert set(found) == set(FIRST_ORDER) | set(TEXTURE) == set(REFERENCE)


def test_six_bins_leave_the_phantom_as_it_is() -> None:
    """As the manual says of a fixed bin number; so do other units, and others beside the first."""
    np.testing.assert_array_equal(discretised(PHANTOM[INSIDE], 6), PHANTOM[INSIDE])
    np.testing.assert_array_equal(discretised(PHANTOM[INSIDE] * 0.3 - 9, 6), PHANTOM[INSIDE])


def test_bins_are_of_one_width_and_the_largest_value_is_in_the_last() -> None:
    np.testing.assert_array_equal(
        discretised(np.array([-2.0, -1.01, 0, 1.99, 2]), 4), [1, 1, 3, 4, 4]
    )
    assert discretised(np.linspace(-1, 1, 1000)).max() == BINS


def test_equal_values_have_no_texture() -> None:
    values = np.full((2, 1, 1), -0.1, np.float32)
    levels = discretised(values)
    found = first_order(values.ravel(), levels.ravel()) | texture(levels)
    assert [found[name] for name in ("entropy", "skewness", "kurtosis")] == [0, 0, 0]
    assert [found[name] for name in TEXTURE] == [0, 1, 1]
    assert texture(np.ones((1, 1, 1), int)) == {name: found[name] for name in TEXTURE}


def test_percentiles_are_values_of_the_region() -> None:
    found = first_order(np.arange(10.0), np.arange(10))
    assert (found["p10"], found["p50"], found["p90"]) == (0, 4, 8)  # interpolated: 0.9, 4.5, 8.1
