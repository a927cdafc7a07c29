"""What is said of a background: which value was taken for it, or why none could be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from jaxsal.grid import Grid
from jaxsal.inputs.background import find_background, note
from jaxsal.volumes import Volume

SHAPE = (20, 24, 18)
AXES = np.meshgrid(*[np.linspace(-1, 1, n) for n in SHAPE], indexing="ij")
HEAD = sum(axis**2 for axis in AXES) < 0.6
RNG = np.random.default_rng(0)
BRAIN = np.where(HEAD, RNG.normal(100, 30, SHAPE), 0).astype(np.float32)
NOISE = np.where(HEAD, BRAIN, RNG.normal(0, 5, SHAPE)).astype(np.float32)


def said(image: np.ndarray, voxel: float = 1.0) -> str:
    """Of an image that is z-scored, with voxels of so many mm."""
    volume = Volume(image, Grid(image.shape, np.diag([voxel] * 3 + [1])), Path("flair.nii.gz"))
    return note(volume, *find_background(image), None)


def with_corner(image: np.ndarray, value: float) -> np.ndarray:
    changed = image.copy()
    changed[0, 0, 0] = value
    return changed


@pytest.mark.parametrize(
    ("image", "voxel", "reason"),
    [
        (NOISE, 1, "8,640 of 8,640 voxels count as head, though they leave no room around"),
        (with_corner(NOISE, 0), 1, "8,639 of 8,640 voxels count as head, though they leave no"),
        (np.pad(NOISE, 4), 1, "8,640 of 23,296 voxels count as head, though they leave no room"),
        (ndimage.rotate(BRAIN + 5, 20, order=0), 1, "though they hold 5 or nearly so in "),
        (with_corner(np.pad(BRAIN + 5, 4), 1), 1, "though they hold 5 or nearly so in "),
        (ndimage.rotate(NOISE, 30, order=0), 11, "though they are 10.4 litres"),
    ],
    ids=["noise", "a zero", "padded", "constant, turned", "a stray voxel", "noise, turned"],
)
def test_what_cannot_be_decided_is_said_with_its_reason(
    image: np.ndarray, voxel: float, reason: str
) -> None:
    assert reason in said(image, voxel)
    assert "give a mask of the brain (--mask)" in said(image, voxel)


def test_a_value_taken_for_background_is_named_and_zeros_beside_it_are() -> None:
    size, outside = HEAD.size, np.count_nonzero(~HEAD)
    moved = f"flair.nii.gz: {outside:,} of {size:,} voxels hold 5 or nearly so"
    taken = " and are taken for background, which becomes 0"
    assert said(BRAIN + 5) == moved + taken
    assert said(with_corner(BRAIN + 5, 0)) == moved + ", or 0 beside it," + taken


def test_noise_in_a_frame_is_doubted_although_the_frame_is_background() -> None:
    framed = said(np.pad(NOISE, 3, constant_values=-9))
    assert "hold -9 or nearly so and are taken for background" in framed
    assert "8,640 of 18,720 voxels count as head" in framed


def test_a_brain_in_zeros_needs_no_note() -> None:
    assert said(BRAIN) == ""
    assert said(BRAIN[3:-3, 3:-3, 2:-2]) == ""  # cropped tightly
