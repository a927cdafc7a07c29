"""What takes the place of a part of an image: by hand, and beside a Gaussian written out."""

from __future__ import annotations

import numpy as np
import pytest

from jaxsal.errors import InputError
from jaxsal.saliency.infill import Infills, Scene, brain_of, within
from jaxsal.settings import INFILLS

SHAPE = (31, 9, 9)
SPACING = (2.0, 4.0, 5.0)
OMEGA = np.zeros(SHAPE, bool)
OMEGA[15, 4, 4] = True


def _distances() -> np.ndarray:
    """From Ω, a single voxel, by Pythagoras."""
    away = [(np.arange(n) - at) * s for n, at, s in zip(SHAPE, (15, 4, 4), SPACING, strict=True)]
    squares = np.meshgrid(*(a**2 for a in away), indexing="ij")
    return np.sqrt(np.sum(squares, axis=0))


def _image() -> np.ndarray:
    """Two channels, with a background of 0 on the faces across the first axis."""
    image = np.random.default_rng(0).normal(size=(*SHAPE, 2)).astype(np.float32)
    image[:2] = image[-2:] = 0
    return image


def _infills(lesions: np.ndarray = OMEGA) -> Infills:
    return Infills(_image(), Scene(SPACING, lesions))


def test_what_is_within_some_mm_includes_those_exactly_so_far_away() -> None:
    np.testing.assert_array_equal(within(OMEGA, 20.0, SPACING), _distances() <= 20)
    assert within(OMEGA, 20.0, SPACING)[25, 4, 4]  # 10 voxels of 2 mm
    np.testing.assert_array_equal(within(OMEGA, 0.0, SPACING), OMEGA)


def test_a_voxel_size_rounded_by_a_header_takes_no_voxel_away() -> None:
    rounded = (2.0000002, 4.0000004, 5.0000005)
    np.testing.assert_array_equal(within(OMEGA, 20.0, rounded), within(OMEGA, 20.0, SPACING))


def test_what_is_within_some_mm_is_cut_off_at_the_image() -> None:
    corner = np.zeros(SHAPE, bool)
    corner[0, 0, 0] = True
    found = within(corner, 4.0, SPACING)
    assert sorted(map(tuple, np.argwhere(found).tolist())) == [
        (0, 0, 0),
        (0, 1, 0),
        (1, 0, 0),
        (2, 0, 0),
    ]


def test_the_mean_is_that_of_brain_nearby_without_any_lesion() -> None:
    image, lesions = _image(), OMEGA.copy()
    lesions[10:13] = True  # others, too
    used = (_distances() <= 20) & ~lesions & (np.abs(image).sum(-1) > 0)
    found = _infills(lesions).of("mean", OMEGA)
    np.testing.assert_allclose(found[3, 4, 5], image[used].mean(0), rtol=1e-5)  # float32
    assert found.shape == image.shape
    assert (found == found[0, 0, 0]).all()


def test_background_is_not_in_the_mean() -> None:
    image = np.full((*SHAPE, 1), 3.0, np.float32)
    image[18:] = 0  # within 20 mm of the lesion
    infills = Infills(image, Scene(SPACING, OMEGA))
    assert infills.of("mean", OMEGA)[0, 0, 0] == pytest.approx(3.0)
    np.testing.assert_array_equal(brain_of(image), image[..., 0] != 0)


def test_without_brain_nearby_the_mean_is_that_of_all_brain_that_is_no_lesion() -> None:
    image = np.zeros((*SHAPE, 1), np.float32)
    image[:3], image[3:5] = 2.0, 9.0
    lesions = OMEGA | (image[..., 0] == 9.0)
    assert Infills(image, Scene(SPACING, lesions)).of("mean", OMEGA)[0, 0, 0] == 2.0
    everything = np.ones(SHAPE, bool)
    assert Infills(image, Scene(SPACING, everything)).of("mean", OMEGA).max() == 0


def test_blurred_is_a_gaussian_of_5_mm_whatever_the_voxel_size() -> None:
    image = np.zeros((41, 41, 41, 1), np.float32)
    image[20, 20, 20] = 1
    spacing = (1.5, 2.0, 2.5)
    found = Infills(image, Scene(spacing, np.zeros(image.shape[:3], bool))).of("blurred", OMEGA)
    axes = [np.exp(-(((np.arange(41) - 20) * s) ** 2) / (2 * 5.0**2)) for s in spacing]
    x, y, z = (axis / axis.sum() for axis in axes)
    expected = x[:, None, None] * y[:, None] * z
    # scipy cuts the Gaussian off at 4 σ, where it is 3e-4 of its peak
    np.testing.assert_allclose(found[..., 0], expected, atol=4e-4 * expected.max())


def test_zero_is_zero() -> None:
    assert not _infills().of("zero", OMEGA).any()


def test_channels_are_not_mixed() -> None:
    image = _image()
    image[..., 1] = 7.0
    for infill in ("mean", "blurred"):
        found = Infills(image, Scene(SPACING, OMEGA)).of(infill, OMEGA)
        np.testing.assert_allclose(found[..., 1], 7.0, rtol=1e-5)


@pytest.mark.parametrize("infill", INFILLS)
def test_every_infill_has_the_image_s_shape_and_precision(infill: str) -> None:
    found = _infills().of(infill, OMEGA)
    assert (found.shape, found.dtype) == ((*SHAPE, 2), np.float32)


def test_an_unknown_infill_is_refused() -> None:
    with pytest.raises(InputError, match="infill must be one of mean, blurred, zero"):
        _infills().of("noise", OMEGA)


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.0, 1.0, 1.0), (np.nan, 1.0, 1.0)])
def test_what_is_no_voxel_size_is_refused(spacing: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match="a voxel size is three numbers"):
        Scene(spacing, OMEGA)


def test_lesions_on_another_grid_are_refused() -> None:
    with pytest.raises(InputError, match="lesions must be of the image's shape"):
        _infills(OMEGA[1:])
