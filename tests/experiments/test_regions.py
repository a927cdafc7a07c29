"""Regions in which experiments place domains, on heads whose tissue is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from jaxsal.demo.anatomy import WHITE
from jaxsal.demo.phantom import Phantom, make_phantom
from jaxsal.errors import InputError
from jaxsal.experiments.detector import DetectorSettings
from jaxsal.experiments.head_outline import head
from jaxsal.experiments.regions import (
    flair_and_t1,
    place_spheres,
    sphere,
    white_matter,
)
from jaxsal.experiments.sanity import SanitySettings
from jaxsal.experiments.true_negatives import SphereSettings
from jaxsal.grid import Grid

SHAPE, SPACING = (84, 102, 84), 2.0
TOUCHING = ndimage.generate_binary_structure(3, 2)


def grid_of(shape: tuple[int, int, int], *spacing: float) -> Grid:
    return Grid(shape, np.diag([*spacing, 1.0]))


@pytest.fixture(scope="module", params=[True, False], ids=["head", "brain"])
def phantom(request: pytest.FixtureRequest) -> Phantom:
    return make_phantom(1, SHAPE, SPACING, skull=request.param)


@pytest.fixture(scope="module")
def white(phantom: Phantom) -> np.ndarray:
    image = np.stack([phantom.flair, phantom.t1], -1)
    grid = Grid(SHAPE, phantom.affine)
    return white_matter(image, ("flair", "t1"), head(image), phantom.lesions, grid)


def test_the_head_is_all_that_is_no_background(phantom: Phantom) -> None:
    image = np.stack([phantom.flair, phantom.t1], -1)
    image[40, 50, 40] = 0  # a hole, and a speck outside
    image[0, 0, 0] = 1
    np.testing.assert_array_equal(head(image), phantom.tissue > 0)


@pytest.mark.parametrize("level", [0.02, 0.1])
def test_noise_in_the_air_is_no_head(phantom: Phantom, level: float) -> None:
    image = np.stack([phantom.flair, phantom.t1], -1)
    inside = phantom.tissue > 0
    noise = np.random.default_rng(0).standard_normal((2, *image.shape))
    noise *= level * np.percentile(image[inside], 90)
    found = head(np.hypot(image + noise[0], noise[1]))  # as in a magnitude image
    with_skull = (phantom.tissue == 1).any()
    # Of a brain alone, the fluid around it is about as dark as the air.
    dice = 2 * (found & inside).sum() / (found.sum() + inside.sum())
    assert dice > (0.995 if with_skull else 0.93)


def test_the_head_is_the_same_in_any_units(phantom: Phantom) -> None:
    image = np.stack([phantom.flair, phantom.t1], -1)
    image += np.random.default_rng(0).uniform(1, 10, image.shape).astype(np.float32)
    other = (image - image.mean((0, 1, 2))) / image.std((0, 1, 2))
    assert (head(image) != head(other)).mean() < 1e-4


def test_a_crop_within_the_head_is_all_head(phantom: Phantom) -> None:
    image = np.stack([phantom.flair, phantom.t1], -1)[24:60, 30:72, 26:60]
    assert head(image + 1).all()


def test_a_tight_crop_keeps_its_dark_parts(phantom: Phantom) -> None:
    (box,) = ndimage.find_objects((phantom.tissue > 0).astype(int))
    image = np.stack([phantom.flair, phantom.t1], -1)[box]
    np.testing.assert_array_equal(head(image), ndimage.binary_fill_holes(phantom.tissue[box] > 0))


def test_what_is_taken_for_white_matter_is(phantom: Phantom, white: np.ndarray) -> None:
    assert (phantom.tissue[white] == WHITE).mean() > 0.97
    assert not (phantom.lesions[white] > 0).any()


def test_most_white_matter_away_from_lesions_and_edges_is_found(
    phantom: Phantom, white: np.ndarray
) -> None:
    def distance(mask: np.ndarray) -> np.ndarray:
        return ndimage.distance_transform_edt(mask, sampling=SPACING)

    truth = (distance(phantom.tissue == WHITE) > 2) & (distance(phantom.lesions == 0) > 5)
    assert 2 * (white & truth).sum() / (white.sum() + truth.sum()) > 0.8
    assert not (white & (distance(phantom.lesions == 0) <= 5)).any()


def test_units_and_order_of_channels_do_not_matter(phantom: Phantom, white: np.ndarray) -> None:
    image = np.stack([5 * phantom.t1 - 2, 0.1 * phantom.flair + 3], -1)
    inside = phantom.tissue > 0
    found = white_matter(
        image, ("MPRAGE", "FLAIR"), inside, phantom.lesions, Grid(SHAPE, phantom.affine)
    )
    assert (found != white).mean() < 1e-3  # by rounding only


@pytest.mark.parametrize(
    ("channels", "expected"),
    [(("flair", "t1"), (0, 1)), (("T1w", "FLAIR"), (1, 0)), (("t1ce", "mprage", "flair"), (2, 1))],
)
def test_channels_are_known_by_name(channels: tuple[str, ...], expected: tuple[int, int]) -> None:
    assert flair_and_t1(channels) == expected


@pytest.mark.parametrize(
    "channels", [("flair",), ("a", "b"), ("flair", "t2"), ("flair", "t1", "mprage")]
)
def test_other_names_ask_for_a_mask(channels: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match="mask of white matter"):
        flair_and_t1(channels)


def test_an_empty_image_has_neither_head_nor_white_matter() -> None:
    image = np.zeros((8, 8, 8, 2))
    grid = grid_of((8, 8, 8), 1, 1, 1)
    assert not head(image).any()
    assert not white_matter(image, ("flair", "t1"), head(image), image[..., 0], grid).any()


def test_a_ball_of_93_voxels_is_all_within_its_radius() -> None:
    offsets = np.argwhere(np.ones((11, 11, 11))) - 5
    expected = offsets[(offsets**2).sum(1) <= 8]  # 93 of them
    found = sphere((3, 4, 5), 93.0, grid_of((9, 9, 9), 1, 1, 1)) - (3, 4, 5)
    assert {*map(tuple, found.tolist())} == {*map(tuple, expected.tolist())}


@pytest.mark.parametrize("spacing", [(1, 1, 1), (0.5, 0.5, 3), (0.9, 1.2, 1)])
@pytest.mark.parametrize("volume", [20.0, 93.0, 500.0])
def test_balls_have_their_volume_whatever_the_voxels(
    spacing: tuple[float, float, float], volume: float
) -> None:
    voxels = sphere((0, 0, 0), volume, grid_of((9, 9, 9), *spacing))
    assert len(voxels) * np.prod(spacing) == pytest.approx(volume, abs=np.prod(spacing) / 2)
    radius = (3 * volume / 4 / np.pi) ** (1 / 3)
    farthest = np.linalg.norm(voxels * spacing, axis=1).max()
    assert farthest < radius + np.linalg.norm(spacing) / 2
    assert len(np.unique(voxels, axis=0)) == len(voxels)


@pytest.mark.parametrize("spacing", [(1, 1, 1), (0.7, 1, 2)])
def test_balls_lie_in_their_region_apart_from_all(spacing: tuple[float, float, float]) -> None:
    shape = (50, 44, 40)
    grid = grid_of(shape, *spacing)
    allowed = np.zeros(shape, bool)
    allowed[3:45, 2:, 5:38] = True
    forbidden = np.zeros(shape, int)
    forbidden[20:24, 20:24] = 7
    labels = place_spheres(allowed, forbidden, 93.0, 10, grid, np.random.default_rng(0))
    sizes = np.bincount(labels.ravel())[1:]
    assert sizes.tolist() == [round(93 / np.prod(spacing))] * 10
    assert not (labels[~allowed] > 0).any()
    assert ndimage.label((labels > 0) | (forbidden > 0), TOUCHING)[1] == 11


def test_places_follow_the_generator() -> None:
    allowed = np.ones((40, 40, 40), bool)
    grid = grid_of(allowed.shape, 1, 1, 1)
    first, again, other = (
        place_spheres(allowed, ~allowed, 93.0, 3, grid, np.random.default_rng(seed))
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_without_room_there_are_fewer() -> None:
    allowed = np.zeros((30, 9, 9), bool)
    allowed[1:19, 1:8, 1:8] = True
    grid = grid_of(allowed.shape, 1, 1, 1)
    labels = place_spheres(allowed, ~allowed & False, 93.0, 10, grid, np.random.default_rng(0))
    assert 1 <= labels.max() <= 2
    nothing = place_spheres(~allowed & False, allowed, 93.0, 10, grid, np.random.default_rng(0))
    assert nothing.max() == 0


@pytest.mark.parametrize("volume", [0.0, -3.0, 100_001.0, np.inf, np.nan])
@pytest.mark.parametrize("settings", [SphereSettings, DetectorSettings, SanitySettings])
def test_balls_have_a_volume_that_a_head_holds(volume: float, settings: type) -> None:
    told = f"sphere volume must be more than 0 and at most 100,000 mm³; got {volume}"
    with pytest.raises(InputError, match=told):
        sphere((0, 0, 0), volume, grid_of((9, 9, 9), 1, 1, 1))
    with pytest.raises(InputError, match=told):
        settings(sphere_volume=volume)
