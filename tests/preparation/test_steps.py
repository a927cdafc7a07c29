"""The steps of preparing a scan, against formulas and other libraries."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.moved_heads import (
    FLAIR_AFFINE,
    FLAIR_SHAPE,
    T1_AFFINE,
    T1_SHAPE,
    TRUE_MOVE,
    points,
    save,
    t1_of,
    tissue,
)
from nibabel.affines import apply_affine
from scipy.ndimage import affine_transform
from scipy.stats import variation

import jaxsal.preparation.register as registering
from jaxsal.errors import InputError
from jaxsal.grid import Grid
from jaxsal.preparation.bias import bias_field
from jaxsal.preparation.carry import carry_mask
from jaxsal.preparation.picture import check_picture
from jaxsal.preparation.register import elastix_matrix, mutual_information, register
from jaxsal.preparation.settings import PreparationSettings
from jaxsal.preparation.spatial import resample_image, resample_labels
from jaxsal.volumes import Volume

T1_GRID, FLAIR_GRID = Grid(T1_SHAPE, T1_AFFINE), Grid(FLAIR_SHAPE, FLAIR_AFFINE)
SHEAR = np.array([[1, 0.2, 0, 0], [0, 1, -0.1, 0], [0, 0, 1, 0], [0, 0, 0, 1]])


def by_scipy(data: np.ndarray, grid: Grid, onto: Grid, order: int) -> np.ndarray:
    matrix = np.linalg.inv(grid.affine) @ TRUE_MOVE @ onto.affine
    return affine_transform(
        data, matrix[:3, :3], matrix[:3, 3], onto.shape, order=order, mode="mirror"
    )


@pytest.mark.parametrize("shear", [np.eye(4), SHEAR])
def test_labels_are_resampled_as_by_scipy(shear: np.ndarray) -> None:
    grid = Grid(FLAIR_SHAPE, shear @ FLAIR_AFFINE)
    labels = np.zeros(FLAIR_SHAPE, np.int32)
    labels[12:20, 14:26, 8:12], labels[20:28, 14:26, 13:18] = 7, 70000
    found = resample_labels(labels, grid, T1_GRID, TRUE_MOVE)
    assert found.dtype == np.int32
    assert set(np.unique(found)) == {0, 7, 70000}
    np.testing.assert_array_equal(found, by_scipy(labels, grid, T1_GRID, 0))


@pytest.mark.parametrize("role", ["reference", "instances"])
def test_lesions_that_vanish_are_counted(role: str, tmp_path: Path) -> None:
    fine = Grid((24, 24, 24), np.eye(4))
    coarse = Grid((8, 8, 8), np.diag([3.0, 3, 3, 1]))  # its voxels are at 0, 3, 6, ...
    labels = np.zeros(fine.shape, np.int32)
    labels[2:7, 2:7, 2:7], labels[10, 10, 10], labels[16, 16, 17] = 1, 2, 5
    path = save(tmp_path / "drawn.nii.gz", labels, fine.affine)
    volumes = {
        channel: Volume(np.ones(grid.shape, np.float32), grid, Path(f"{channel}.nii"))
        for channel, grid in (("flair", fine), ("t1", coarse))
    }
    settings = PreparationSettings(mask_on="flair")
    carried, note = carry_mask(role, path, volumes, settings, np.eye(4), coarse)
    assert carried.dtype == (bool if role == "reference" else np.int32)
    np.testing.assert_array_equal(carried > 0, labels[::3, ::3, ::3] > 0)
    which = "" if role == "reference" else " (labels 2, 5)"
    assert note == f"2 of 3 lesions in drawn.nii.gz{which} vanished between the voxels of t1.nii"
    larger = np.where(labels == 1, 1, 0).astype(np.int32)
    save(path, larger, fine.affine)
    assert carry_mask(role, path, volumes, settings, np.eye(4), coarse)[1] == ""


def test_images_are_resampled_as_by_scipy_and_zeros_stay() -> None:
    moved = apply_affine(np.linalg.inv(TRUE_MOVE), points(FLAIR_SHAPE, FLAIR_AFFINE))
    data = t1_of(tissue(moved, 1))
    found = resample_image(data, FLAIR_GRID, T1_GRID, TRUE_MOVE)
    content = by_scipy((data != 0).astype(np.float32), FLAIR_GRID, T1_GRID, 1)
    expected = by_scipy(data, FLAIR_GRID, T1_GRID, 3)
    middle = points(T1_SHAPE, T1_AFFINE)
    deep = ((middle / 25.0) ** 2).sum(-1) < 1  # far from the volume's borders
    np.testing.assert_allclose(found[deep], expected[deep], rtol=1e-3)
    there = (content > 0.51) & (((middle / 32.0) ** 2).sum(-1) < 1)
    assert np.mean((found != 0)[there]) > 0.99  # splines reach below zero beside edges
    assert np.all(found[content < 0.49] == 0)
    assert found.max() <= data.max()


def test_nothing_is_resampled_where_nothing_moves() -> None:
    data = np.random.default_rng(0).standard_normal(T1_SHAPE).astype(np.float32)
    assert resample_image(data, T1_GRID, T1_GRID, np.eye(4)) is data


def test_mutual_information_of_known_distributions() -> None:
    first = np.repeat(np.arange(4.0), 400)
    second = np.tile(np.arange(4.0), 400)
    inside = np.ones(first.shape, bool)
    assert mutual_information(first, 7 - 2 * first, inside) == pytest.approx(np.log(4))
    assert mutual_information(first, second, inside) == pytest.approx(0, abs=1e-12)
    assert mutual_information(first, first // 2, inside) == pytest.approx(np.log(2))
    assert mutual_information(first, first, ~inside) == 0


def test_a_known_field_is_removed() -> None:
    places = points(T1_SHAPE, T1_AFFINE)
    inside = tissue(places, 1) > 0
    white = inside & (tissue(places, 1) > 0.5)
    clean = np.where(white, 400, np.where(inside, 250, 0)).astype(np.float32)
    clean *= 1 + 0.02 * np.random.default_rng(0).standard_normal(T1_SHAPE).astype(np.float32)
    true = np.exp(0.35 * (places[..., 0] / 40 + (places[..., 1] / 40) ** 2)).astype(np.float32)
    field = bias_field(clean * true, T1_GRID)
    before, after = variation((clean * true)[white]), variation((clean * true / field)[white])
    assert before > 0.15
    assert after < before / 4
    assert np.corrcoef(np.log(field[inside]), np.log(true[inside]))[0, 1] > 0.98


def test_an_image_without_contrast_has_no_field() -> None:
    with pytest.raises(InputError, match=r"flat\.nii has no positive contrast"):
        bias_field(np.zeros((16, 16, 16), np.float32), Grid((16, 16, 16), np.eye(4)), "flat.nii")


def test_a_registration_that_makes_it_worse_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    data = t1_of(tissue(points(T1_SHAPE, T1_AFFINE), 1))
    volume = Volume(data, T1_GRID, Path("t1.nii"))
    monkeypatch.setattr(registering, "elastix_matrix", lambda *_: TRUE_MOVE)
    found = register(volume, volume)
    np.testing.assert_array_equal(found.matrix, np.eye(4))
    assert found.after is data
    assert "t1.nii is left where its header places it" in found.note


@pytest.mark.thorough
def test_images_that_do_not_meet_are_told() -> None:
    data = t1_of(tissue(points(T1_SHAPE, T1_AFFINE), 1))
    far = T1_AFFINE.copy()
    far[:3, 3] += 900
    fixed, moving = (
        Volume(data, T1_GRID, Path("a.nii")),
        Volume(data, Grid(T1_SHAPE, far), Path("b")),
    )
    with pytest.raises(InputError, match=r"b cannot be registered to a\.nii: .*same space") as told:
        elastix_matrix(fixed, moving, "rigid")
    assert "\n" not in str(told.value)


@pytest.mark.thorough
def test_an_affine_transform_may_scale() -> None:
    places = points(T1_SHAPE, T1_AFFINE)
    scaled = np.diag([1.08, 0.94, 1.0, 1.0])
    moved = t1_of(tissue(apply_affine(np.linalg.inv(scaled), places), 1))
    fixed = Volume(t1_of(tissue(places, 1)), T1_GRID, Path("a.nii"))
    found = elastix_matrix(fixed, Volume(moved, T1_GRID, Path("b.nii")), "affine")
    np.testing.assert_allclose(np.diag(found), np.diag(scaled), atol=0.015)


def test_the_picture_shows_every_channel_thrice_before_and_after() -> None:
    data = t1_of(tissue(points(T1_SHAPE, T1_AFFINE), 1))
    field = np.exp(points(T1_SHAPE, T1_AFFINE)[..., 1] / 100)
    figure = check_picture("$a", T1_GRID, data, {"flair": (data, data)}, {"t1": (data, field)})
    assert len(figure.axes) == 12
    said = " ".join(text.get_text() for text in figure.texts)
    assert "flair, registered" in said
    assert "t1, corrected" in said
    assert "dashed below 1" in said
