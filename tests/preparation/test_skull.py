"""Whether an image shows a brain alone, as BIDS has it told."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from jaxsal.grid import Grid
from jaxsal.preparation.skull import is_skull_stripped
from jaxsal.volumes import Volume

SPACING = 6.0  # mm
ADULT_BRAIN, ADULT_HEAD = 68.0, 88.0  # mm, radii of balls of 1.3 and 2.9 litres


def ball(path: Path, radius: float, background: float = 0.0) -> Volume:
    """A ball, of noise, in a constant background."""
    rng = np.random.default_rng(0)
    axes = np.meshgrid(*[SPACING * (np.arange(36) - 17.5)] * 3, indexing="ij")
    inside = sum(axis**2 for axis in axes) < radius**2
    data = np.where(inside, 100 + rng.standard_normal(inside.shape), background)
    affine = np.diag([SPACING, SPACING, SPACING, 1.0])
    return Volume(data.astype(np.float32), Grid(data.shape, affine), path)


@pytest.mark.parametrize("background", [0.0, -1.5])
@pytest.mark.parametrize(("radius", "stripped"), [(ADULT_BRAIN, True), (ADULT_HEAD, False)])
def test_a_head_is_told_from_a_brain_by_its_volume(
    radius: float, stripped: bool, background: float, tmp_path: Path
) -> None:
    assert is_skull_stripped(ball(tmp_path / "t1.nii.gz", radius, background)) is stripped


@pytest.mark.parametrize("told", [True, False])
def test_what_the_file_beside_the_image_says_counts_more(told: bool, tmp_path: Path) -> None:
    (tmp_path / "t1.json").write_text(json.dumps({"SkullStripped": told}))
    for radius in (ADULT_BRAIN, ADULT_HEAD):
        assert is_skull_stripped(ball(tmp_path / "t1.nii.gz", radius)) is told


def test_a_file_beside_the_image_that_says_nothing_of_it_is_passed_over(tmp_path: Path) -> None:
    for content in ("[]", "{", '{"SkullStripped": "n/a"}'):
        (tmp_path / "t1.json").write_text(content)
        assert is_skull_stripped(ball(tmp_path / "t1.nii.gz", ADULT_BRAIN))
