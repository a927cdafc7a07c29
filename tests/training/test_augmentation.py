from __future__ import annotations

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from monai.transforms import AdjustContrast
from scipy import ndimage

from jaxsal.errors import InputError
from jaxsal.training.augmentation import (
    AugmentationSettings,
    augment,
    change_contrast,
    draw_matrix,
)
from jaxsal.training.resampling import interpolate, nearest

SHAPE = (10, 10, 10)
NOTHING = {
    "flips": False,
    "rotations": False,
    "affine_probability": 0.0,
    "gain_probability": 0.0,
    "shift_probability": 0.0,
    "gamma_probability": 0.0,
    "noise_probability": 0.0,
}
ALWAYS = {name: 1.0 for name in NOTHING if name.endswith("_probability")}


def only(**options) -> AugmentationSettings:
    return AugmentationSettings(**{**NOTHING, **options})


@cache
def compiled(settings: AugmentationSettings):
    return jax.jit(partial(augment, settings))


def apply(settings: AugmentationSettings, seed: int, images, labels):
    found = compiled(settings)(jax.random.key(seed), images, labels)
    return tuple(map(np.asarray, found))


def make_batch(shape=SHAPE, examples: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Patches in a black background; the second channel tells what is lesion."""
    rng = np.random.default_rng(3)
    labels = np.zeros((examples, *shape), np.int32)
    labels[:, 2:5, 3:5, 4:7], labels[:, 7, 6, 2] = 1, 2
    head = np.zeros(shape, bool)
    head[1:-1, 2:-1, 1:-2] = True
    values = np.where(head, rng.normal(size=labels.shape), 0)
    return np.stack([values, labels > 0], axis=-1).astype(np.float32), labels


def orientations(image: np.ndarray, flips: bool, planes: list[tuple[int, int]]) -> set[bytes]:
    """All that flips, or turns by 90° in some planes, make of an image, by numpy."""
    found, new = set(), [image]
    while new:
        image = new.pop()
        if image.tobytes() in found:
            continue
        found.add(image.tobytes())
        new += [np.rot90(image, axes=plane) for plane in planes]
        new += [np.flip(image, axis) for axis in range(3) if flips]
    return found


CUBE = [(0, 1), (0, 2), (1, 2)]


@pytest.mark.parametrize(
    ("shape", "flips", "rotations", "planes", "count"),
    [
        ((4, 4, 4), True, False, [], 8),
        ((4, 4, 4), False, True, CUBE, 24),
        ((4, 4, 4), True, True, CUBE, 48),
        ((4, 3, 4), False, True, [(0, 2)], 4),
        ((3, 4, 4), True, True, [(1, 2)], 16),
        ((2, 3, 4), True, True, [], 8),
        ((2, 3, 4), False, True, [], 1),
    ],
)
def test_flips_and_turns_are_those_of_numpy_and_all_of_them(
    shape, flips: bool, rotations: bool, planes, count: int
) -> None:
    labels = np.arange(np.prod(shape), dtype=np.int32).reshape(shape)
    many = np.broadcast_to(labels, (600, *shape))
    images = np.stack([many, -many], axis=-1).astype(np.float32)
    turned, moved = apply(only(flips=flips, rotations=rotations), 0, images, many)
    expected = orientations(labels, flips, planes)
    assert len(expected) == count
    assert {patch.tobytes() for patch in moved} == expected
    np.testing.assert_array_equal(turned, np.stack([moved, -moved], axis=-1))


def test_without_an_affine_change_linear_interpolation_is_exact() -> None:
    images, labels = make_batch()
    rare = only(flips=True, rotations=True, affine_probability=1e-6)
    turned, moved = apply(rare, 2, images, labels)
    for image, patch, source in zip(turned, moved, images, strict=True):
        assert image[..., 0].tobytes() in orientations(source[..., 0], True, CUBE)
        np.testing.assert_array_equal(image[..., 1], patch > 0)


def test_two_flips_are_none() -> None:
    images, labels = make_batch()
    settings = only(flips=True)
    once = apply(settings, 5, images, labels)
    twice = apply(settings, 5, *once)
    assert not np.array_equal(once[1], labels)
    np.testing.assert_array_equal(twice[0], images)
    np.testing.assert_array_equal(twice[1], labels)


@pytest.mark.parametrize("shape", [(9, 8, 7), (12, 12, 12)])
@pytest.mark.parametrize("seed", range(3))
def test_an_affine_change_is_that_of_scipy(shape, seed: int) -> None:
    settings = only(
        **{"flips": True, "rotations": True, "affine_probability": 1.0},
        **{"rotation_degrees": 40.0, "scale": (0.5, 1.5), "shear": 0.3},
    )
    rng = np.random.default_rng(seed)
    matrix = jax.jit(partial(draw_matrix, settings, shape=shape))(rng.random(14))
    image = ndimage.gaussian_filter(rng.normal(size=(*shape, 2)), (1, 1, 1, 0)).astype(np.float32)
    labels = rng.integers(0, 4, shape, np.int32)
    m, centre = np.asarray(matrix, np.float64), (np.array(shape) - 1) / 2
    moved = partial(ndimage.affine_transform, matrix=m, offset=centre - m @ centre, mode="mirror")
    expected = np.stack([moved(image[..., c], order=1) for c in range(2)], axis=-1)
    found = jax.jit(interpolate)(image, matrix)
    np.testing.assert_allclose(found, expected, atol=2e-5)
    same = np.asarray(jax.jit(nearest)(labels, matrix)) == moved(labels, order=0)
    assert same.mean() > 0.995  # but where a place is halfway between two voxels


def test_affine_changes_have_the_sizes_asked_for() -> None:
    bounded = only(affine_probability=1.0, rotation_degrees=20.0, scale=(0.8, 1.1), shear=0.0)
    numbers = np.random.default_rng(0).random((200, 14))
    matrices = jax.jit(jax.vmap(partial(draw_matrix, bounded, shape=SHAPE)))(numbers)
    matrices = np.asarray(matrices, np.float64)
    _turns, steps, _ = np.linalg.svd(matrices)
    assert 1 / 1.1 - 1e-5 <= steps.min() < 0.93
    assert 1.22 < steps.max() <= 1 / 0.8 + 1e-5
    rotations = matrices / np.linalg.norm(matrices, axis=1, keepdims=True)
    angles = np.rad2deg(np.arccos((np.trace(rotations, axis1=1, axis2=2) - 1) / 2))
    assert 25 < angles.max() < 3**0.5 * 20 + 1
    assert np.linalg.det(matrices).min() > 0


def test_a_larger_scale_makes_things_larger() -> None:
    images, labels = make_batch((16, 16, 16))
    labels = np.zeros_like(labels)
    labels[:, 6:10, 6:10, 6:10] = 1
    grown = only(affine_probability=1.0, rotation_degrees=0.0, scale=(1.5, 1.5), shear=0.0)
    assert (apply(grown, 0, images, labels)[1].sum((1, 2, 3)) == 6**3).all()


def test_images_and_labels_move_together() -> None:
    images, labels = make_batch((20, 20, 20), 8)
    labels[:] = 0
    labels[:, 4:12, 6:14, 7:15] = 1
    images[..., 1] = labels
    settings = only(flips=True, rotations=True, affine_probability=1.0)
    turned, moved = apply(settings, 4, images, labels)
    assert len({patch.tobytes() for patch in moved}) == 8
    halves = turned[..., 1] > 0.5  # linear interpolation of a mask: apart from it at edges only
    away = np.abs(turned[..., 1] - 0.5) > 0.45
    np.testing.assert_array_equal(halves[away], moved[away] > 0)
    assert away[moved > 0].mean() > 0.4


def test_zeros_stay_zero_and_labels_as_they_are_when_intensities_change() -> None:
    images, labels = make_batch()
    changed, same = apply(only(**{**ALWAYS, "affine_probability": 0.0}), 1, images, labels)
    np.testing.assert_array_equal(changed[images == 0], 0)
    assert (changed != images)[..., 0][images[..., 0] != 0].all()
    np.testing.assert_array_equal(same, labels)
    assert np.isfinite(changed).all()


def test_factor_and_term_are_those_asked_for_and_of_each_channel() -> None:
    images, labels = np.random.default_rng(0).normal(size=(40, *SHAPE, 2)), np.zeros((40, *SHAPE))
    images, labels = images.astype(np.float32), labels.astype(np.int32)
    settings = only(gain_probability=0.5, gain=(0.5, 2.0), shift_probability=0.5, shift=1.0)
    changed, _ = apply(settings, 0, images, labels)
    x, y = (a.transpose(0, 4, 1, 2, 3).reshape(80, -1) for a in (images, changed))
    fits = np.array([np.polyfit(a, b, 1) for a, b in zip(x, y, strict=True)])
    np.testing.assert_allclose(fits[:, :1] * x + fits[:, 1:], y, atol=1e-4)
    for drawn, same, low, high in [(fits[:, 0], 1, 0.5, 2), (fits[:, 1], 0, -1, 1)]:
        changed_ones = drawn[np.abs(drawn - same) > 1e-4]
        assert 20 < len(changed_ones) < 60
        assert low - 1e-3 < drawn.min() < low + 0.2 * (high - low)
        assert high - 0.2 * (high - low) < drawn.max() < high + 1e-3
    assert (np.abs(fits[::2] - fits[1::2]) > 1e-4).any(0).all()


@pytest.mark.parametrize("exponent", [0.6, 1.0, 1.7])
def test_contrast_changes_as_in_monai(exponent: float) -> None:
    image = np.random.default_rng(1).normal(size=(*SHAPE, 1)).astype(np.float32)
    found = jax.jit(change_contrast)(image, jnp.full(1, exponent, jnp.float32))
    expected = np.asarray(AdjustContrast(exponent)(image[..., 0]))
    np.testing.assert_allclose(found[..., 0], expected, atol=1e-4)


@pytest.mark.parametrize("values", [[0.0, 0.0, 0.0], [0.0, 2.0, 2.0], [0.0, -1.0, 0.0]])
def test_contrast_of_an_empty_or_even_patch_stays(values: list[float]) -> None:
    image = np.array(values, np.float32).reshape(3, 1, 1, 1)
    np.testing.assert_array_equal(jax.jit(change_contrast)(image, jnp.full(1, 0.5)), image)


def test_noise_is_normal_and_of_the_strength_asked_for() -> None:
    images = np.ones((40, *SHAPE, 2), np.float32)
    settings = only(noise_probability=0.5, noise=0.3)
    noise = apply(settings, 0, images, np.zeros(images.shape[:4], np.int32))[0] - 1
    spreads = noise.std((1, 2, 3, 4))
    assert 10 < np.count_nonzero(spreads) < 30
    assert 0.24 < spreads.max() < 0.31
    scaled = noise[spreads > 0.01] / spreads[spreads > 0.01][:, None, None, None, None]
    np.testing.assert_allclose([scaled.mean(), (scaled**4).mean()], [0, 3], atol=0.1)


def test_each_example_is_changed_by_itself_and_a_key_gives_the_same() -> None:
    images, labels = (a[:1].repeat(4, axis=0) for a in make_batch())
    settings = AugmentationSettings(**ALWAYS)
    one, again, other = (apply(settings, seed, images, labels)[0] for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, again)
    assert len({patch.tobytes() for patch in (*one, *other)}) == 8


def test_a_batch_shared_between_devices_is_changed_alike() -> None:
    images, labels = make_batch(examples=4)
    settings = AugmentationSettings(**ALWAYS)
    mesh = Mesh(np.array(jax.devices()[:2]), ("batch",))
    shared = NamedSharding(mesh, PartitionSpec("batch"))
    found = apply(settings, 0, jax.device_put(images, shared), jax.device_put(labels, shared))
    expected = apply(settings, 0, images, labels)
    np.testing.assert_allclose(found[0], expected[0], atol=1e-5)
    np.testing.assert_array_equal(found[1], expected[1])


def test_nothing_asked_for_changes_nothing() -> None:
    images, labels = make_batch()
    changed, same = apply(only(), 0, images, labels)
    np.testing.assert_array_equal(changed, images)
    np.testing.assert_array_equal(same, labels)


@pytest.mark.parametrize(
    "wrong",
    [
        {"affine_probability": 1.5},
        {"scale": (1.1, 0.9)},
        {"gain": (0.0, 1.0)},
        {"gamma": (0.5,)},
        {"noise": -1.0},
        {"shift": float("nan")},
        {"rotation_degrees": 200.0},
        {"shear": 0.8},
    ],
)
def test_settings_out_of_range_are_refused(wrong: dict) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        AugmentationSettings(**wrong)


def test_settings_are_hashable_whatever_holds_the_ranges() -> None:
    assert hash(AugmentationSettings(scale=[0.9, 1.1])) == hash(AugmentationSettings())
