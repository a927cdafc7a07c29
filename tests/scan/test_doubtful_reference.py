"""References that are of another scan, or do not lie on it."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from jaxsal.grid import Grid
from jaxsal.lesions import label_lesions
from jaxsal.metrics import LesionCounts
from jaxsal.scan.notes import doubtful_reference

SHAPE, MM = (60, 64, 56), (1.0, 1.0, 1.0)


def lesions(seed: int, number: int = 30, size: int = 3) -> np.ndarray:
    """Cubes at random places of the same region."""
    mask = np.zeros(SHAPE, bool)
    for place in np.random.default_rng(seed).integers(18, 38, (number, 3)):
        mask[tuple(slice(p, p + size) for p in place)] = True
    return mask


def doubts(found: np.ndarray, reference: np.ndarray) -> tuple[str, ...]:
    _, instances = label_lesions(found, Grid(found.shape, np.eye(4)), reference)
    return doubtful_reference(found, reference, LesionCounts.of(instances), MM)


FOUND = lesions(0)
POOR = lesions(0, 6) | lesions(2, 12)  # a third of what was found is true, a fifth of that was


@pytest.mark.parametrize(
    "reference",
    [lesions(1), np.roll(FOUND, 5, 0), np.roll(FOUND, -9, 2), np.roll(FOUND, 25, 1)],
    ids=["of another patient", "moved", "moved further", "far away"],
)
def test_a_reference_that_does_not_belong_to_the_scan_is_noticed(reference: np.ndarray) -> None:
    (note,) = doubts(FOUND, reference)
    assert "check that it is of this scan" in note


@pytest.mark.parametrize(
    ("found", "reference"),
    [
        (FOUND, FOUND),
        (POOR, FOUND),
        (FOUND, np.roll(FOUND, 1, 0)),
        (lesions(0, 4), lesions(1, 30)),  # too few to say
        (np.zeros(SHAPE, bool), FOUND),
        (FOUND, np.zeros(SHAPE, bool)),
        (ndimage.binary_dilation(FOUND, iterations=6) | FOUND, FOUND),
    ],
    ids=["same", "poor", "a voxel off", "few", "none found", "no lesion", "far too much"],
)
def test_nothing_is_said_of_others(found: np.ndarray, reference: np.ndarray) -> None:
    assert doubts(found, reference) == ()


def test_large_lesions_overlap_with_themselves_when_moved() -> None:
    axes = np.meshgrid(*[np.arange(n) for n in SHAPE], indexing="ij")
    ball = sum((a - n / 2) ** 2 for a, n in zip(axes, SHAPE, strict=True)) < 22**2
    counts = LesionCounts(9, 0, 0)  # as if it were several
    assert doubtful_reference(ball, ndimage.binary_erosion(ball), counts, MM) == ()


def test_a_real_patients_reference_is_no_other_patients(shared) -> None:
    masks = {}
    for number in ("07", "19"):
        image = nib.load(shared / "data" / "masks" / f"gold{number}.nii.gz")
        masks[number] = np.asarray(image.dataobj) > 0
    found = masks["07"] & (np.random.default_rng(0).random(masks["07"].shape) < 0.6)
    found |= np.roll(masks["07"], 40, 1)  # and as many false ones
    assert doubts(found, masks["07"]) == ()
    assert len(doubts(found, masks["19"])) == 1
