"""Random changes of patches, computed on the device: where things lie, and how bright they are."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import partial
from math import isfinite

import jax
import jax.numpy as jnp
import numpy as np

from jaxsal.errors import require
from jaxsal.training.resampling import interpolate, nearest

Range = tuple[float, float]

_OF_PLACE = 14  # random numbers that a transform is made of
_OF_CHANNEL = 6  # and the intensities of each channel
_BESIDE_DIAGONAL = np.nonzero(1 - np.eye(3))


@dataclass(frozen=True)
class AugmentationSettings:
    """How patches are changed; hashable, so that it may be static to a compiled function.

    Attributes:
        flips: mirror each axis with a chance of a half.
        rotations: turn by multiples of 90° in the planes in which the patch is square.
        affine_probability: of an affine change of a patch, as the next three say.
        rotation_degrees: the largest angle about each axis, in voxel space.
        scale: the range of the factor by which things grow, one per axis.
        shear: the largest shear of each axis by each other one, as a tangent.
        gain_probability: of a factor to intensities; it and the following two are drawn for each
            channel of a patch by itself.
        gain: the range of the factor.
        shift_probability: of a term added to intensities.
        shift: its largest magnitude; the unit is the scan's standard deviation, as images are
            z-scored.
        gamma_probability: of a change of contrast: an exponent to the intensities, scaled to
            0 … 1 between the least and the largest that is not zero.
        gamma: the range of the exponent.
        noise_probability: of Gaussian noise on a patch.
        noise: its largest standard deviation.

    Raises:
        InputError: a value is out of its range.
    """

    flips: bool = True
    rotations: bool = True
    affine_probability: float = 0.3
    rotation_degrees: float = 15.0
    scale: Range = (0.9, 1.1)
    shear: float = 0.05
    gain_probability: float = 0.3
    gain: Range = (0.8, 1.25)
    shift_probability: float = 0.3
    shift: float = 0.2
    gamma_probability: float = 0.3
    gamma: Range = (0.7, 1.5)
    noise_probability: float = 0.3
    noise: float = 0.1

    def __post_init__(self) -> None:
        for name in (field.name for field in fields(self)):
            value = getattr(self, name)
            if name.endswith("_probability"):
                require(0 <= value <= 1, name, "from 0 to 1", value)
            elif name in ("scale", "gain", "gamma"):
                low, high = value if len(value) == 2 else (0, 0)
                rule = "a range of two finite numbers above 0, the smaller first"
                require(0 < low <= high and isfinite(high), name, rule, value)
                object.__setattr__(self, name, (float(low), float(high)))
            elif name not in ("flips", "rotations"):
                require(value >= 0 and isfinite(value), name, "0 or more, and finite", value)
        require(
            self.rotation_degrees <= 180, "rotation_degrees", "at most 180", self.rotation_degrees
        )
        require(self.shear <= 0.5, "shear", "at most 0.5", self.shear)


def augment(
    settings: AugmentationSettings, key: jax.Array, images: jax.Array, labels: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Changes every patch of a batch at random, each by itself; to be compiled by the caller.

    Images are interpolated linearly and labels take the nearest voxel's, both by the same
    transform; beyond its edge a patch is mirrored. Flips and turns by 90° are exact, and without
    an affine change nothing is interpolated. Zeros, which is what lies outside of the head and of
    the scan, stay zero under changes of intensity.

    Args:
        settings: static.
        key: of the random draws.
        images: (B, X, Y, Z, C) float32.
        labels: (B, X, Y, Z) integers.

    Returns:
        Images and labels of the same shapes and dtypes.
    """
    examples, channels = images.shape[0], images.shape[-1]
    drawing, noising = jax.random.split(key)
    # All at once, as every call of the generator takes long to compile.
    numbers = jax.random.uniform(drawing, (examples, _OF_PLACE + _OF_CHANNEL * channels + 2))
    noise = None
    if settings.noise_probability:
        noise = jax.random.normal(noising, images.shape, images.dtype)
    return jax.vmap(partial(_augment_one, settings))(numbers, noise, images, labels)


def _augment_one(
    settings: AugmentationSettings,
    numbers: jax.Array,
    noise: jax.Array | None,
    image: jax.Array,
    labels: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """One patch, by random numbers from 0 to 1 and noise of its shape."""
    place, brightness = numbers[:_OF_PLACE], numbers[_OF_PLACE:]
    if settings.flips or settings.rotations or settings.affine_probability:
        matrix = draw_matrix(settings, place, labels.shape)
        # Without an affine change, voxels are taken from the middle of others.
        linear = settings.affine_probability > 0
        image = interpolate(image, matrix) if linear else nearest(image, matrix)
        labels = nearest(labels, matrix)
    return _change_intensities(settings, brightness, noise, image), labels


def draw_matrix(
    settings: AugmentationSettings, numbers: jax.Array, shape: Sequence[int]
) -> jax.Array:
    """A random transform (3, 3): from places in the result to places in the patch.

    Both are voxels from the middle of the patch.

    Args:
        settings: of flips, turns and affine changes.
        numbers: (14,), random ones from 0 to below 1.
        shape: of the patch.
    """
    turns = np.stack(_turns(settings, shape)).astype(np.float32)
    matrix = jnp.asarray(turns)[(numbers[0] * len(turns)).astype(jnp.int32)]
    if not settings.affine_probability:
        return matrix
    applied = numbers[1] < settings.affine_probability
    return jnp.where(applied, _product(_affine(settings, numbers[2:]), matrix), matrix)


def _turns(settings: AugmentationSettings, shape: Sequence[int]) -> list[np.ndarray]:
    """All transforms that flips, or turns by 90° in square planes, or both together, make."""
    moved = [n for n in range(3) if settings.rotations and list(shape).count(shape[n]) > 1]
    found = []
    for order in itertools.permutations(range(3)):
        if any(a != b and not {a, b} <= {*moved} for a, b in enumerate(order)):
            continue
        for signs in itertools.product((1, -1), repeat=3):
            matrix = np.diag(signs)[:, list(order)]
            turned = {n for n in range(3) if signs[n] < 0}
            # A product of turns is one of any pair of axes; a mirror image it is never.
            if settings.flips or (turned <= {*moved} and np.linalg.det(matrix) > 0):
                found.append(matrix)
    return found


def _affine(settings: AugmentationSettings, numbers: jax.Array) -> jax.Array:
    """A rotation, after a shear and a change of scale (3, 3), by 12 random numbers."""
    limit = np.deg2rad(settings.rotation_degrees)
    angles = _between((-limit, limit), numbers[:3])
    shears = _between((-settings.shear, settings.shear), numbers[3:9])
    # Things grow where the step from a voxel to the next one covers less of the patch.
    steps = 1 / _between(settings.scale, numbers[9:])
    matrix = jnp.diag(steps).at[_BESIDE_DIAGONAL].set(shears)
    for axis in range(3):
        matrix = _product(_rotation(axis, angles[axis]), matrix)
    return matrix


def _rotation(axis: int, angle: jax.Array) -> jax.Array:
    """By an angle about an axis: (3, 3)."""
    a, b = (n for n in range(3) if n != axis)
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    turn = jnp.eye(3).at[a, a].set(cos).at[b, b].set(cos)
    return turn.at[a, b].set(-sin).at[b, a].set(sin)


def _product(a: jax.Array, b: jax.Array) -> jax.Array:
    """Of two matrices, in full precision on every device."""
    return jnp.matmul(a, b, precision="highest")


def _change_intensities(
    settings: AugmentationSettings, numbers: jax.Array, noise: jax.Array | None, image: jax.Array
) -> jax.Array:
    """Contrast, factor, term and noise, in this order; zeros stay."""
    changed = image
    contrast, factor, term = numbers[:-2].reshape(3, 2, -1)
    if settings.gamma_probability:
        exponent = _drawn(contrast, settings.gamma_probability, settings.gamma, 1)
        changed = change_contrast(changed, exponent)
    if settings.gain_probability:
        changed *= _drawn(factor, settings.gain_probability, settings.gain, 1)
    if settings.shift_probability:
        limits = (-settings.shift, settings.shift)
        changed += _drawn(term, settings.shift_probability, limits, 0)
    if noise is not None:
        limits = (0.0, settings.noise)
        changed += _drawn(numbers[-2:], settings.noise_probability, limits, 0) * noise
    return jnp.where(image == 0, 0, changed)


def change_contrast(image: jax.Array, exponent: jax.Array) -> jax.Array:
    """Intensities to the power of an exponent, between the least and the largest that is not 0.

    Args:
        image: (X, Y, Z, C).
        exponent: (C,).
    """
    inside = image != 0
    low = jnp.where(inside, image, jnp.inf).min((0, 1, 2))
    high = jnp.where(inside, image, -jnp.inf).max((0, 1, 2))
    extent = high - low
    spread = extent > 0  # neither of one value nor empty
    scaled = jnp.where(inside & spread, (image - low) / jnp.where(spread, extent, 1), 0)
    changed = scaled**exponent * extent + low
    # Of an exponent of 1 the rounding is spared too.
    return jnp.where(inside & spread & (exponent != 1), changed, image)


def _drawn(numbers: jax.Array, probability: float, limits: Range, otherwise: float) -> jax.Array:
    """Values within limits with some probability, by random numbers (2, ...)."""
    return jnp.where(numbers[0] < probability, _between(limits, numbers[1]), otherwise)


def _between(limits: Range, numbers: jax.Array) -> jax.Array:
    low, high = limits
    return low + (high - low) * numbers
