"""The images of one patient: what is background in them, and a mask that says so."""

from __future__ import annotations

from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from helpers.tiny import CHANNELS, SHAPE, load, save

from jaxsal.errors import InputError
from jaxsal.inputs.background import Background
from jaxsal.inputs.images import read_image, read_images
from jaxsal.preprocessing import Normalisation, Preprocessing

NNUNET = Preprocessing(
    (Normalisation("zscore", masked=True),) * 2, (1.0, 0.9, 1.2), (16, 16, 16), crop=True
)


@pytest.fixture
def moved(scan, tmp_path):
    """The tiny scan's FLAIR with a background of -2, and its T1."""
    data = load(scan.flair)
    return save(tmp_path / "moved.nii.gz", data / 100 - 2, scan.affine), scan.t1


@pytest.fixture
def brain(scan, tmp_path):
    """A mask of the tiny scan's head."""
    return save(tmp_path / "brain.nii.gz", (load(scan.flair) != 0).astype(np.uint8), scan.affine)


def test_a_background_that_is_not_zero_changes_nothing(scan, moved):
    read = read_images(moved, CHANNELS)
    np.testing.assert_allclose(read.image, scan.image, atol=2e-6)  # float32 of other values
    assert not read.image[scan.image[..., 0] == 0].any()
    assert [b.value for b in read.backgrounds] == [-2, 0]
    assert read.backgrounds[0] == replace(read.backgrounds[1], value=-2.0)
    assert "hold -2 or nearly so" in read.notes[0]
    assert read.notes[1] == ""


def test_a_background_of_zero_gives_the_z_score_of_all_else(scan):
    flair = load(scan.flair).astype(np.float64)
    inside = flair != 0
    expected = np.zeros(SHAPE, np.float32)
    expected[inside] = (flair[inside] - flair[inside].mean()) / flair[inside].std()
    image, _ = read_image(scan.images, CHANNELS)
    np.testing.assert_array_equal(image[..., 0], expected)


@pytest.mark.parametrize("preprocessing", [None, NNUNET], ids=["z-score", "nnU-Net"])
def test_a_mask_makes_everything_outside_of_it_background(scan, brain, tmp_path, preprocessing):
    rng = np.random.default_rng(0)
    noisy = []
    for path in scan.images:
        data = load(path)
        air = rng.normal(0, 30, SHAPE).astype(np.float32) * (data == 0)
        noisy.append(save(tmp_path / path.name, data + air, scan.affine))
    found, _ = read_image(noisy, CHANNELS, preprocessing, brain)
    expected, _ = read_image(scan.images, CHANNELS, preprocessing)
    np.testing.assert_array_equal(found, expected)
    unmasked = read_images(noisy, CHANNELS, preprocessing)
    assert not np.array_equal(unmasked.image, expected)
    if preprocessing is None:
        assert f"{np.prod(SHAPE):,} of {np.prod(SHAPE):,} voxels count as head" in unmasked.notes[1]


@pytest.mark.parametrize("shift", [0, -2.5], ids=["zeros in it", "a background in it"])
def test_all_within_a_mask_is_brain_whatever_it_holds(scan, tmp_path, shift):
    data = np.round(load(scan.flair).astype(np.float32) / 40) + np.float32(shift)  # zeros in brain
    box = np.zeros(SHAPE, np.uint8)
    box[2:-2, 2:-2, 2:-2] = 1  # around the head, and some of what surrounds it
    inside = box != 0
    path, mask = (
        save(tmp_path / f"{name}.nii.gz", values, scan.affine)
        for name, values in (("flair", data), ("box", box))
    )
    read = read_images([path], CHANNELS[:1], mask=mask)
    expected = np.zeros(SHAPE, np.float32)
    values = data[inside].astype(np.float64)
    expected[inside] = (values - values.mean()) / values.std()
    np.testing.assert_array_equal(read.image[..., 0], expected)
    assert read.backgrounds == (Background(0.0, int(np.count_nonzero(~inside))),)


def test_a_mask_of_a_ct_is_warned_of_since_zero_is_no_air_there(scan, brain):
    ct = Normalisation("ct", mean=40, std=20, lower=0, upper=80)
    network = replace(NNUNET, normalisation=(ct, NNUNET.normalisation[1]))
    assert "0 HU" in read_images(scan.images, CHANNELS, network, brain).notes[0]
    assert read_images(scan.images, CHANNELS, network, brain).notes[1] == ""
    assert read_images(scan.images, CHANNELS, network).notes == ("", "")


def test_an_image_that_is_constant_within_the_mask_is_refused_as_that(scan, brain, tmp_path):
    outside = (load(brain) == 0).astype(np.float32)
    empty = save(tmp_path / "outside.nii.gz", outside, scan.affine)
    inside = int(load(brain).sum())
    with pytest.raises(InputError, match=f"value 0 in all {inside} voxels that are no background"):
        read_image([empty], CHANNELS[:1], mask=brain)


def test_nnunet_normalises_any_background_as_it_does(moved):
    read = read_images(moved, CHANNELS, NNUNET)
    raw = np.stack([load(path).astype(np.float32) for path in moved], -1)
    np.testing.assert_array_equal(read.image, NNUNET.apply(raw))
    assert "as nnU-Net does" in read.notes[0]
    assert read.notes[1] == ""


def test_an_empty_mask_of_the_brain_is_refused(scan, tmp_path):
    empty = save(tmp_path / "empty.nii.gz", np.zeros(SHAPE, np.uint8), nib.load(scan.t1).affine)
    with pytest.raises(InputError, match=r"empty\.nii\.gz is empty"):
        read_image(scan.images, CHANNELS, mask=empty)
