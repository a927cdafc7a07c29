"""Explanations with Quantus's signature: which lesion of which image, and mistakes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers.peers import aggregated, autograd_rows, converted

import jaxsal
from jaxsal.errors import InputError
from jaxsal.field.plan import LogitField

pytestmark = pytest.mark.usefixtures("xla_convolutions", "one_device")

SHAPE = (12, 8, 8)
EXACT = {"samples": 1, "noise": 0}


@pytest.fixture(scope="module")
def field() -> LogitField:
    return jaxsal.whole_volume(converted("short"))


@pytest.fixture(scope="module")
def labels() -> np.ndarray:
    labels = np.zeros(SHAPE, np.int16)
    labels[2:4, 5, 3] = 2
    labels[9, 1:3, 6] = 5
    return labels


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((2, 2, *SHAPE), "f4")


def expected(image: np.ndarray, domain: np.ndarray, aggregate: str) -> np.ndarray:
    rows = autograd_rows("short", "whole", np.moveaxis(image, 0, -1).copy(), np.argwhere(domain))
    return np.moveaxis(aggregated(rows, aggregate), -1, 0)


@pytest.mark.parametrize("aggregate", ["max", "mean"])
def test_each_row_is_the_map_of_its_target_in_its_image(
    aggregate: str, images: np.ndarray, labels: np.ndarray, field: LogitField
) -> None:
    rows, targets = [0, 0, 1, 0, 1], [5, 2, 5, 0, 5]
    stored = labels * np.float32(0.9999999)  # as a label map with a scale factor is read
    found = jaxsal.quantus_explain(
        *(None, images[rows], targets),
        **{"field": field, "labels": stored, "aggregate": aggregate, **EXACT},
    )
    assert (found.shape, found.dtype) == ((5, 2, *SHAPE), np.float32)
    for row, target, each in zip(rows, targets, found, strict=True):
        domain = labels == target if target else labels > 0
        wanted = expected(images[row], domain, aggregate)
        np.testing.assert_allclose(each, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"inputs": np.zeros((2, *SHAPE))}, r"inputs must be \(B, C, X, Y, Z\)"),
        ({"labels": np.ones((2, *SHAPE))}, r"labels must be on the images' grid .* \(12, 8, 8\)"),
        ({"labels": np.full(SHAPE, 0.5)}, "labels must be whole in every voxel"),
        ({"targets": [2]}, r"a label per image, \(2,\); got the shape \(1,\)"),
        ({"targets": [2, 1]}, r"here \[2, 5\], or 0 for all of them; got \[1, 2\]"),
        ({"labels": np.zeros(SHAPE), "targets": [0, 0]}, r"labels of lesions, here \[\]"),
    ],
)
def test_mistakes_are_told(
    changes: dict[str, Any],
    message: str,
    images: np.ndarray,
    labels: np.ndarray,
    field: LogitField,
) -> None:
    arguments = {"model": None, "inputs": images, "targets": [2, 5], "labels": labels, **EXACT}
    with pytest.raises(InputError, match=message):
        jaxsal.quantus_explain(**{**arguments, **changes}, field=field)
