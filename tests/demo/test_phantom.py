"""The synthetic head: reproducible, on a clean background, with lesions that look like lesions."""

from __future__ import annotations

from dataclasses import astuple
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from jaxsal.demo.anatomy import BACKGROUND, CENTRE, CSF, DEEP_GREY, GREY, WHITE
from jaxsal.demo.phantom import Phantom, make_phantom, write_phantom
from jaxsal.errors import InputError

SHAPE, SPACING = (84, 102, 84), 2.0
TOUCHING = np.ones((3, 3, 3), bool)


@pytest.fixture(scope="module", params=[0, 1, 2])
def seed(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture(scope="module")
def head(seed: int) -> Phantom:
    return make_phantom(seed, SHAPE, SPACING)


def lesion_contrasts(head: Phantom, channel: np.ndarray) -> np.ndarray:
    """Each lesion's mean over that of the healthy white matter around it, less one."""
    healthy = ndimage.binary_erosion(head.tissue == WHITE)
    healthy &= ~ndimage.binary_dilation(head.lesions > 0, TOUCHING)
    contrasts = []
    for label in range(1, head.lesions.max() + 1):
        lesion = head.lesions == label
        ring = ndimage.binary_dilation(lesion, TOUCHING, iterations=4) & healthy
        contrasts.append(channel[lesion].mean() / channel[ring].mean() - 1)
    return np.array(contrasts)


def test_a_seed_gives_the_same_phantom_again(head: Phantom, seed: int) -> None:
    again = make_phantom(seed, SHAPE, SPACING)
    for first, second in zip(astuple(head), astuple(again), strict=True):
        np.testing.assert_array_equal(first, second)


def test_seeds_differ_in_anatomy_lesions_and_units() -> None:
    first, second = (make_phantom(seed, SHAPE, SPACING) for seed in (3, 4))
    assert np.mean(first.tissue != second.tissue) > 0.02
    assert np.mean(first.lesions[second.lesions > 0] > 0) < 0.5
    assert not np.isclose(first.flair.max(), second.flair.max(), rtol=1e-3)


@pytest.mark.parametrize(("shape", "spacing"), [((42, 50, 46), 4.0), ((60, 68, 57), 3.0)])
def test_volumes_lie_on_the_grid_asked_for(shape: tuple[int, int, int], spacing: float) -> None:
    phantom = make_phantom(0, shape, spacing, lesions=2)
    dtypes = {"flair": np.float32, "t1": np.float32, "lesions": np.int32, "tissue": np.uint8}
    for name, dtype in dtypes.items():
        volume = getattr(phantom, name)
        assert (volume.shape, volume.dtype) == (shape, dtype), name
    np.testing.assert_array_equal(phantom.affine[:3, :3], spacing * np.eye(3))
    middle = np.append((np.array(shape) - 1) / 2, 1)
    np.testing.assert_allclose(phantom.affine @ middle, [*CENTRE, 1])


def test_the_background_is_exactly_zero_and_the_head_is_not(head: Phantom) -> None:
    outside = head.tissue == BACKGROUND
    assert 0.2 < outside.mean() < 0.7
    for channel in (head.flair, head.t1):
        assert np.isfinite(channel).all()
        np.testing.assert_array_equal(channel == 0, outside)


def test_without_skull_the_same_brain_remains(head: Phantom, seed: int) -> None:
    brain = make_phantom(seed, SHAPE, SPACING, skull=False)
    inside = brain.tissue != BACKGROUND
    assert 0.9e6 < inside.sum() * SPACING**3 < 1.9e6  # mm3
    assert np.isin(brain.tissue[inside], [CSF, GREY, WHITE, DEEP_GREY]).all()
    np.testing.assert_array_equal(brain.lesions, head.lesions)
    np.testing.assert_array_equal(brain.flair, head.flair * inside)
    np.testing.assert_array_equal(brain.t1, head.t1 * inside)


def test_tissues_have_the_contrast_of_flair_and_t1(head: Phantom) -> None:
    fluid = ndimage.binary_erosion(head.tissue == CSF)
    healthy = (head.lesions == 0) & ~ndimage.binary_dilation(head.tissue == CSF)
    grey, white = ((head.tissue == code) & healthy for code in (GREY, WHITE))
    assert head.flair[grey].mean() > 1.05 * head.flair[white].mean()
    assert head.t1[white].mean() > 1.2 * head.t1[grey].mean()
    for channel in (head.flair, head.t1):
        assert channel[fluid].mean() < 0.5 * channel[white].mean()


@pytest.mark.parametrize("lesions", [0, 1, 12, 25])
def test_each_lesion_is_one_component_in_white_matter(lesions: int) -> None:
    phantom = make_phantom(5, SHAPE, SPACING, lesions=lesions)
    components, count = ndimage.label(phantom.lesions > 0, TOUCHING)
    assert count == lesions
    np.testing.assert_array_equal(np.unique(phantom.lesions), np.arange(lesions + 1))
    pairs = np.unique(np.stack([components, phantom.lesions]).reshape(2, -1), axis=1)
    assert pairs.shape[1] == lesions + 1  # labels and components correspond one to one
    assert (phantom.tissue[phantom.lesions > 0] == WHITE).all()


def test_lesions_are_bright_on_flair_and_dark_on_t1(head: Phantom) -> None:
    flair, t1 = lesion_contrasts(head, head.flair), lesion_contrasts(head, head.t1)
    assert (flair > 0.05).all()
    assert (t1 < 0).mean() > 0.8
    assert flair.mean() > 0.25
    assert t1.mean() < -0.1
    assert flair.mean() > -t1.mean()


def test_brightness_on_flair_alone_does_not_give_lesions_away(head: Phantom) -> None:
    labels = np.arange(1, head.lesions.max() + 1)
    faintest = ndimage.mean(head.flair, head.lesions, labels).min()
    healthy_brain = np.isin(head.tissue, [GREY, WHITE, DEEP_GREY]) & (head.lesions == 0)
    assert (head.flair[healthy_brain] > faintest).sum() > (head.lesions > 0).sum()


def test_too_many_lesions_are_refused() -> None:
    with pytest.raises(InputError, match="500"):
        make_phantom(0, (40, 40, 40), 4.0, lesions=500)


def test_written_files_carry_the_voxels_and_the_grid(tmp_path: Path) -> None:
    phantom = make_phantom(0, (40, 48, 42), 4.0, lesions=2)
    write_phantom(phantom, tmp_path / "new" / "folder")
    expected = {"FLAIR": phantom.flair, "T1": phantom.t1, "lesions": phantom.lesions}
    for name, array in expected.items():
        image = nib.Nifti1Image.from_filename(tmp_path / "new" / "folder" / f"{name}.nii.gz")
        np.testing.assert_array_equal(np.asanyarray(image.dataobj), array)
        np.testing.assert_allclose(image.affine, phantom.affine)
        assert image.header.get_xyzt_units()[0] == "mm"
        assert nib.aff2axcodes(image.affine) == ("R", "A", "S")
