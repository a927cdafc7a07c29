"""Metrics against MONAI, scikit-learn, worked examples and the paper's own numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import settings as trials
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from monai.metrics import DiceMetric
from sklearn.metrics import f1_score as sklearn_f1

from jaxsal.errors import InputError
from jaxsal.grid import Grid
from jaxsal.metrics import (
    LESION_RATES,
    LesionCounts,
    count_lesions,
    dice,
    normalised_dice,
)

SHAPE = (12, 10, 8)
GRID = Grid(SHAPE, np.eye(4))

few = trials(max_examples=50, deadline=None, derandomize=True)


@st.composite
def pairs(draw):
    """Two masks of one shape."""
    shape = draw(array_shapes(min_dims=3, max_dims=3, max_side=5))
    return draw(arrays(bool, shape)), draw(arrays(bool, shape))


def rows(*rows: tuple[int, int, int, int]) -> np.ndarray:
    """A mask with rows along X: (x, y, z, length)."""
    mask = np.zeros(SHAPE, bool)
    for x, y, z, length in rows:
        mask[x : x + length, y, z] = True
    return mask


@few
@given(pairs())
def test_dice_is_monais_and_the_f1_score_of_voxels(masks):
    both = [torch.from_numpy(mask[None, None].astype(np.float32)) for mask in masks]
    monai = DiceMetric(ignore_empty=False)(*both).item()
    assert dice(*masks) == pytest.approx(monai, abs=1e-6)
    voxels = [mask.ravel() for mask in masks]
    assert dice(*masks) == pytest.approx(sklearn_f1(*voxels, zero_division=1.0), abs=1e-12)


@few
@given(pairs(), st.integers(0, 2))
def test_scores_do_not_depend_on_orientation(masks, axis):
    flipped = [np.flip(mask, axis) for mask in masks]
    turned = [np.moveaxis(mask, axis, 0) for mask in masks]
    for score in (dice, normalised_dice):
        assert score(*masks) == score(*flipped) == score(*turned)
        assert 0 <= score(*masks) <= 1
    assert dice(*masks) == dice(*reversed(masks))


@few
@given(pairs())
def test_normalised_dice_is_dice_where_the_load_is_the_normal_one(masks):
    prediction, reference = masks
    load = reference.mean()
    assume(0 < load < 1)  # then κ is 1
    assert normalised_dice(prediction, reference, float(load)) == pytest.approx(dice(*masks))
    harsher = normalised_dice(prediction, reference, float(load) / 2)
    assert harsher <= dice(*masks) + 1e-12  # κ > 1: false positives count for more


def test_normalised_dice_by_hand():
    reference, prediction = rows((0, 0, 0, 8)), rows((2, 0, 0, 8))
    # P = 8 of V = 960, κ = 0.999 · 8 / (0.001 · 952); 6 true, 2 false, 2 missed
    kappa = 0.999 * 8 / 0.952
    assert normalised_dice(prediction, reference) == pytest.approx(12 / (12 + 2 * kappa + 2))
    assert dice(prediction, reference) == 12 / 16


@few
@given(pairs())
def test_normalised_dice_is_the_published_one(masks):
    prediction, reference = (mask.astype(np.float32) for mask in masks)
    assert normalised_dice(prediction, reference) == pytest.approx(_shifts(prediction, reference))


def _shifts(seg: np.ndarray, gt: np.ndarray, r: float = 0.001) -> float:
    """As the authors' challenge computed it, on masks of 0 and 1."""
    if seg.sum() + gt.sum() == 0:
        return 1.0
    others = gt.size - gt.sum()
    k = (1 - r) * gt.sum() / (r * others) if gt.sum() and others else 1.0
    tp, fp, fn = seg[gt == 1].sum(), seg[gt == 0].sum(), gt[seg == 0].sum()
    return 2 * tp / (k * fp + 2 * tp + fn)


@pytest.mark.parametrize("score", [dice, normalised_dice])
def test_empty_and_full_masks(score):
    empty, full, some = np.zeros(SHAPE, bool), np.ones(SHAPE, bool), rows((0, 0, 0, 5))
    assert score(empty, empty) == score(full, full) == 1
    assert score(some, empty) == score(empty, some) == 0
    assert score(some, full) == pytest.approx(10 / (5 + 960))


def test_bad_arguments_are_refused():
    mask = rows((0, 0, 0, 5))
    with pytest.raises(InputError, match=r"same shape, got \(12, 10, 8\) and \(12, 10, 1\)"):
        dice(mask, mask[..., :1])
    for load in (0, 1, math.nan):
        with pytest.raises(InputError, match="more than 0 and less than 1"):
            normalised_dice(mask, mask, load)


def test_lesions_are_counted_by_overlap_and_size():
    reference = rows((0, 0, 0, 6), (0, 5, 0, 6), (0, 0, 5, 6), (0, 9, 7, 5))  # the last: too small
    prediction = rows((5, 0, 0, 6), (0, 8, 3, 7), (6, 9, 3, 6), (0, 5, 0, 5), (4, 9, 7, 7))
    # The first shares a voxel with the first; the next two touch by an edge and are one, false;
    # the fourth is too small, but the second is not missed; the last shares a voxel with what is
    # too small to be missed.
    assert count_lesions(prediction, reference, GRID) == LesionCounts(tp=2, fp=1, fn=1)
    smaller = count_lesions(prediction, reference, GRID, minimum_volume=4)
    assert smaller == LesionCounts(tp=3, fp=1, fn=1)


@few
@given(pairs())
def test_of_equal_masks_every_lesion_is_found(masks):
    grid = Grid(masks[0].shape, np.eye(4))
    counts = count_lesions(masks[0], masks[0], grid, minimum_volume=0)
    assert counts.fp == counts.fn == 0
    found = count_lesions(*masks, grid, minimum_volume=0)
    mirrored = count_lesions(*(np.flip(mask, 1) for mask in masks), grid, minimum_volume=0)
    assert found == mirrored


@pytest.mark.parametrize(
    ("counts", "tpr", "fdr", "fnr"),
    [
        ((3050, 1818, 789), 0.79, 0.37, 0.20),
        ((3112, 1954, 880), 0.78, 0.38, 0.22),
        ((3516, 2018, 598), 0.85, 0.36, 0.14),
    ],
)
def test_rates_are_those_of_the_paper(counts, tpr, fdr, fnr):
    rates = LesionCounts(*counts).rates()
    # some of its percentages are rounded, some cut off
    for name, expected in (("tpr", tpr), ("fdr", fdr), ("fnr", fnr)):
        assert -0.005 <= rates[name] - expected < 0.01


def test_rates_by_hand_and_where_they_are_not_defined():
    nan = math.nan
    cases = {
        (3, 1, 1): [3 / 4, 1 / 4, 1 / 4, 6 / 8],
        (0, 2, 0): [nan, 1, nan, 0],
        (0, 0, 2): [0, nan, 1, 0],
        (0, 0, 0): [nan, nan, nan, nan],
    }
    for counts, expected in cases.items():
        found = LesionCounts(*counts).rates()
        assert list(found) == ["tpr", "fdr", "fnr", "f1"]
        np.testing.assert_equal(list(found.values()), expected)
    together = [rate(*np.transpose(list(cases))) for rate in LESION_RATES.values()]
    np.testing.assert_equal(np.transpose(together), list(cases.values()))
