"""How fast a model's gradients are on this device, measured, and what a scan will take."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from scipy import ndimage

from jaxsal.box import Box
from jaxsal.current_device import current_device
from jaxsal.devices import default_devices
from jaxsal.errors import InputError
from jaxsal.types import Triple

LESION_VOXELS = 24  # a common size; the larger a lesion, the less its forward passes weigh
_LESIONS = 2  # to begin with
_GROWTH = 4
_TRIES = 2000  # at placing a lesion


@dataclass(frozen=True)
class Throughput:
    """Measured speed of single-voxel gradients, forward passes included, compilation not.

    Attributes:
        device: kind of the device it was measured on.
        shape: grid (X, Y, Z) of the synthetic scan.
        gradients: voxels × noise samples of the measured call.
        seconds: that it took.
        first_call: seconds of the very first call, compilation included.
    """

    device: str
    shape: Triple
    gradients: int
    seconds: float
    first_call: float

    @property
    def gradients_per_second(self) -> float:
        """Voxels × noise samples per second."""
        return self.gradients / self.seconds

    def forecast(self, voxels: int, samples: int) -> float:
        """Seconds for the signed-maximum maps of this many lesion voxels in all."""
        return voxels * samples / self.gradients_per_second


def measure_throughput(
    maps: Callable[..., object],
    shape: Triple,
    channels: int,
    *,
    samples: int | None = None,
    least_seconds: float = 5.0,
    most_lesions: int = 128,
) -> Throughput:
    """Times signed-maximum maps on a synthetic scan, of more lesions the faster the device is.

    Args:
        maps: computes them on the default device, of an image (X, Y, Z, C), labels (X, Y, Z) and
            the keyword `samples`, as `jaxsal.smoothgrad` of some field does.
        shape: grid (X, Y, Z) of the scan.
        channels: C of the scan.
        samples: noisy images; by default two, or one for each of several devices.
        least_seconds: how long the measured call is to take at least.
        most_lesions: how many lesions the scan may have for that.

    Raises:
        InputError: the shape has no room for the lesions, or does not fit the field.
    """
    samples = samples or max(2, len(default_devices()))

    def timed(lesions: int) -> float:
        image, labels = synthetic_scan(shape, channels, (LESION_VOXELS,) * lesions)
        before = time.perf_counter()
        maps(jnp.asarray(image), labels, samples=samples)
        return time.perf_counter() - before

    lesions = _LESIONS
    first_call, seconds = timed(lesions), timed(lesions)
    while seconds < least_seconds and lesions < most_lesions:
        try:
            more = timed(_GROWTH * lesions)
        except InputError:  # no room for as many
            break
        lesions, seconds = _GROWTH * lesions, more
    gradients = lesions * LESION_VOXELS * samples
    return Throughput(current_device().device_kind, shape, gradients, seconds, first_call)


def synthetic_scan(
    shape: Triple, channels: int, sizes: tuple[int, ...], seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Random images of a head-shaped region, with ball-shaped lesions of exact sizes.

    Args:
        shape: grid (X, Y, Z).
        channels: C.
        sizes: voxels of each lesion.
        seed: of the values and of where the lesions lie.

    Returns:
        Image (X, Y, Z, C) float32, zero outside of an ellipsoid, and labels (X, Y, Z) int32,
        1 … for the lesions in their order.

    Raises:
        InputError: there is no room for the lesions within the ellipsoid.
    """
    random = np.random.default_rng(seed)
    axes = np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij", sparse=True)
    x, y, z = (axis**2 for axis in axes)
    head = x + y + z <= 1
    image = random.standard_normal((*shape, channels), np.float32) * head[..., None]
    return image, _lesions(random, shape, head, sizes)


def _lesions(
    random: np.random.Generator, shape: Triple, head: np.ndarray, sizes: tuple[int, ...]
) -> np.ndarray:
    labels = np.zeros(shape, np.int32)
    free = ndimage.binary_erosion(head)
    for label, size in enumerate(sizes, 1):
        ball = _ball(size)
        for centre in random.integers(0, shape, (_TRIES, 3)):
            voxels = centre + ball
            if (voxels >= 0).all() and (voxels < shape).all() and free[tuple(voxels.T)].all():
                break
        else:
            raise InputError(f"a volume of {shape} has no room for lesions of {list(sizes)} voxels")
        labels[tuple(voxels.T)] = label
        around = Box(voxels.min(0) - 1, voxels.max(0) + 2)  # lesions do not touch
        free[around.clip(shape).slices] = False
    return labels


def _ball(size: int) -> np.ndarray:
    """(V, 3) the offsets nearest to a voxel, of this number, itself included."""
    radius = int(np.ceil(size ** (1 / 3)))
    offsets = np.stack(np.meshgrid(*[np.arange(-radius, radius + 1)] * 3, indexing="ij"), -1)
    offsets = offsets.reshape(-1, 3)
    return offsets[np.argsort((offsets**2).sum(1), kind="stable")[:size]]
