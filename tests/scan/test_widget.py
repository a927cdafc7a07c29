"""A lesion in a notebook's viewer: three volumes that lie where the scan does."""

from __future__ import annotations

import gzip
import sys
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from helpers.tiny import oblique_affine
from nibabel.affines import apply_affine

from jaxsal.errors import InputError
from jaxsal.grid import Grid
from jaxsal.saliency.maps import Crop
from jaxsal.scan.widget import lesion_widget

niivue = pytest.importorskip("ipyniivue")

SHAPE, CHANNELS = (9, 8, 7), ("flair", "t1")
GRID = Grid(SHAPE, oblique_affine())  # x is flipped: the viewer turns it
rng = np.random.default_rng(0)
IMAGE = rng.normal(size=(*SHAPE, 2)).astype(np.float32)
OMEGA = np.zeros(SHAPE, bool)
OMEGA[3:5, 3:6, 2:4] = True
CROP = Crop(rng.normal(size=(5, 6, 4, 2)).astype(np.float32), (2, 1, 1), 1)
HEAT = Crop(np.abs(CROP.values[..., :1]), CROP.origin, 1)


def show(crop: Crop = CROP, channel: str | None = None, scale: Any = "diverging") -> Any:
    return lesion_widget(IMAGE, OMEGA, crop, GRID, CHANNELS, channel, scale)


def dense(volume: Any) -> np.ndarray:
    """What a volume holds, on the grid, by where its affine says that it lies; NaN elsewhere."""
    image = nib.Nifti1Image.from_bytes(gzip.decompress(volume.data))
    assert nib.aff2axcodes(image.affine) == ("R", "A", "S")
    values = image.get_fdata(dtype=np.float32)
    world = apply_affine(image.affine, np.argwhere(np.ones(values.shape, bool)))
    voxels = apply_affine(np.linalg.inv(GRID.affine), world)
    np.testing.assert_allclose(voxels, voxels.round(), atol=1e-4)
    found = np.full(SHAPE, np.nan, np.float32)
    found[tuple(voxels.round().astype(int).T)] = values.ravel()
    return found


@pytest.mark.parametrize(("channel", "at"), [(None, 0), ("t1", 1)])
def test_the_scan_is_a_channel_of_the_image(channel: str | None, at: int) -> None:
    scan, map_, _ = show(channel=channel).volumes
    assert scan.name == f"{CHANNELS[at]}.nii.gz"
    np.testing.assert_array_equal(dense(scan), IMAGE[..., at])
    expected = np.full(SHAPE, np.nan)
    expected[CROP.box.slices] = CROP.values[..., at]
    np.testing.assert_array_equal(dense(map_), expected.astype(np.float32))


def test_the_outline_is_around_the_lesion_and_leaves_it_free() -> None:
    outline = np.nan_to_num(dense(show().volumes[2])) == 1
    assert not (outline & OMEGA).any()
    for axis in range(3):
        for step in (-1, 1):
            beside = np.roll(OMEGA, step, axis)
            assert outline[beside & ~OMEGA].all()
    assert outline.sum() == 2 * (2 * 3 + 3 * 2 + 2 * 2)  # the faces of a box


@pytest.mark.thorough
def test_colours_are_centred_at_zero() -> None:
    map_ = show().volumes[1]
    peak = np.abs(CROP.values[..., 0]).max()
    assert map_.cal_max == pytest.approx(peak)
    assert (map_.cal_min_neg, map_.cal_max_neg) == (-map_.cal_max, -map_.cal_min)
    assert map_.colormap_type == niivue.ColormapType.ZERO_TO_MAX_TRANSLUCENT_BELOW_MIN
    assert map_.colormap_negative


def test_a_heat_map_is_that_of_every_channel_and_has_no_negative_colours() -> None:
    map_ = show(HEAT, "t1", "sequential").volumes[1]
    np.testing.assert_array_equal(dense(map_)[HEAT.box.slices], HEAT.values[..., 0])
    assert not map_.colormap_negative


def test_it_begins_in_the_lesion() -> None:
    widget = show()
    image = nib.Nifti1Image.from_bytes(gzip.decompress(widget.volumes[0].data))
    voxel = np.array(widget.scene.crosshair_pos) * image.shape - 0.5
    there = apply_affine(np.linalg.inv(GRID.affine), apply_affine(image.affine, voxel))
    assert OMEGA[tuple(there.round().astype(int))]


def test_the_lesion_is_in_the_middle_of_the_slices() -> None:
    """Of which the part that is seen is (its own extent - moved) / zoom, in NiiVue."""
    widget = show()
    image = nib.Nifti1Image.from_bytes(gzip.decompress(widget.volumes[0].data))
    *moved, zoom = widget.scene.pan2d_xyzmm
    sizes, origin = image.header.get_zooms(), np.linalg.inv(image.affine)[:3, 3]
    seen = [(edge * np.array(image.shape) - 0.5 - origin) * sizes for edge in (0, 1)]
    middle = (np.mean(seen, axis=0) - moved) / zoom
    voxel = np.array(widget.scene.crosshair_pos) * image.shape - 0.5
    np.testing.assert_allclose(middle, (voxel - origin) * sizes, atol=1e-4)


def test_the_background_is_black() -> None:
    image = IMAGE.copy()
    image[0] = 0
    scan = lesion_widget(image, OMEGA, CROP, GRID, CHANNELS, None, "diverging").volumes[0]
    assert (dense(scan)[0] == image[..., 0].min()).all()


def test_another_channel_is_refused() -> None:
    with pytest.raises(InputError, match="channel must be one of flair, t1; got 'T2'"):
        show(channel="T2")


def test_without_ipyniivue_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ipyniivue", None)
    with pytest.raises(InputError, match=r"needs ipyniivue.*jaxsal\[view\]"):
        show()
