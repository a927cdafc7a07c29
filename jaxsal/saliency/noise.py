"""Gaussian noise that is the same in any batch, window, device or machine.

Sample n of seed s is drawn over the image's whole grid from a counter-based key folded with n
(Salmon et al. 2011), so that it depends on s, n and the grid only.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp

from jaxsal.errors import InputError
from jaxsal.settings import NOISE_SCALES, NoiseScale


def standard_deviation(image: jax.Array, noise: float, scale: NoiseScale) -> float:
    """The standard deviation of the noise, the same for all channels.

    Args:
        image: (X, Y, Z, C).
        noise: level, not negative.
        scale: "range": a fraction of channel 0's maximum minus minimum, as the scripts published
            with Spagnolo et al. 2026 have it; "absolute": in units of the image, as their text
            has it (0.05).

    Raises:
        InputError: the level is negative or not finite, or the scale unknown.
    """
    if not 0 <= noise < float("inf"):
        raise InputError(f"noise must be a level of zero or more, got {noise}")
    if scale not in NOISE_SCALES:
        raise InputError(f'noise_scale must be "range" or "absolute", got {scale!r}')
    first = image[..., 0]
    return float(noise * (first.max() - first.min())) if scale == "range" else float(noise)


@partial(jax.jit, static_argnames=("count",))
def add_noise(image: jax.Array, deviation: float, seed: int, first: int, count: int) -> jax.Array:
    """Noisy copies (N, X, Y, Z, C) of an image: samples first to first + count - 1 of a seed."""
    key = jax.random.key(seed, impl="threefry2x32")  # whatever the global configuration
    keys = jax.vmap(lambda n: jax.random.fold_in(key, n))(first + jnp.arange(count))
    noise = jax.vmap(lambda k: jax.random.normal(k, image.shape, jnp.float32))(keys)
    return image + deviation * noise
