"""The ε_n of Eqs. 1-3: Gaussian noise that is the same in any batch, window, device or machine.

Sample n of seed s is drawn over the image's whole grid from a counter-based key folded with n
(Salmon et al. 2011), so that it depends on s, n and the grid only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxsal.errors import InputError

if TYPE_CHECKING:
    from jaxsal.saliency.methods.smoothgrad import NoiseScale, SmoothGradSettings


def standard_deviation(
    image: jax.Array | np.ndarray, noise: float | tuple[float, ...], scale: NoiseScale
) -> float | np.ndarray:
    """The standard deviation of the noise, for all channels or of each (C,).

    Args:
        image: (X, Y, Z, C).
        noise: level, not negative, or one per channel.
        scale: "range": a fraction of channel 0's maximum minus minimum, as the scripts published
            with Spagnolo et al. 2026 have it; "absolute": in units of the image, as their text
            has it (0.05).

    Raises:
        InputError: there are more or fewer levels than channels.
    """
    channels = image.shape[-1]
    if isinstance(noise, tuple) and len(noise) != channels:
        raise InputError(f"noise needs one level, or one per channel, {channels}; got {noise}")
    level = np.asarray(noise, np.float32) if isinstance(noise, tuple) else noise
    first = image[..., 0]
    deviation = level * (first.max() - first.min()) if scale == "range" else level
    return np.asarray(deviation) if isinstance(noise, tuple) else float(deviation)


@jax.jit
def add_noise(
    image: jax.Array, deviation: float | np.ndarray, seed: int, samples: ArrayLike
) -> jax.Array:
    """Noisy copies (N, X, Y, Z, C) of an image: these samples (N,) of a seed, by number."""
    key = jax.random.key(seed, impl="threefry2x32")  # whatever the global configuration
    keys = jax.vmap(lambda n: jax.random.fold_in(key, n))(jnp.asarray(samples))
    noise = jax.vmap(lambda k: jax.random.normal(k, image.shape, jnp.float32))(keys)
    return image + deviation * noise


@dataclass(frozen=True)
class NoisyImages:
    """Noisy copies of an image, as a program makes them.

    Attributes:
        image: (X, Y, Z, C).
        count: how many there are.
        make: from the image, what is the same for all copies, and what each of them takes, to
            these (N, X, Y, Z, C); it is traced.
        common: the former.
        of_each: the latter, from the numbers (N,) of copies to arrays (N, ...).
    """

    image: np.ndarray
    count: int
    make: Callable[[jax.Array, Any, Any], jax.Array]
    common: Any
    of_each: Callable[[np.ndarray], np.ndarray]


def noisy_images(
    image: np.ndarray, settings: SmoothGradSettings, given: ArrayLike | None
) -> NoisyImages:
    """The noisy copies that `jaxsal.smoothgrad` averages over.

    Raises:
        InputError: the given noise has another shape.
    """
    if given is None:
        deviation = standard_deviation(image, settings.noise, settings.noise_scale)
        common = deviation, settings.seed
        return NoisyImages(image, settings.samples, _drawn, common, lambda numbers: numbers)
    noise = np.asarray(given, np.float32)
    if noise.ndim != 5 or noise.shape[1:] != image.shape or not len(noise):
        raise InputError(
            f"noise_samples must have the shape (N, *image) = (N, {image.shape}), N at least "
            f"1; got {noise.shape}"
        )
    if not np.isfinite(noise).all():
        raise InputError("noise_samples must be finite, but have NaN or infinite values")
    return NoisyImages(image, len(noise), _added, (), lambda numbers: noise[numbers])


def _drawn(image: jax.Array, common: tuple[Any, Any], samples: jax.Array) -> jax.Array:
    return add_noise(image, *common, samples)


def _added(image: jax.Array, _: tuple[()], noise: jax.Array) -> jax.Array:
    return image + noise
