"""The compiled programs of the engine, their work shared between the devices of a host.

Devices form a mesh of two axes: over one go the noisy images, over the other the items of a
batch. Every device linearises the windows of its own samples and pulls its own items back; maxima
are kept apart per device and united at the end, so that devices never wait for each other.

Programs are compiled once per derivative and mesh; those that run the network, once per size of
window, whatever the shape of the images. Axes of arrays: D devices along the item axis, B items,
N noisy images, then X, Y, Z and C.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxsal.field.plan import cut_window
from jaxsal.saliency.aggregate import add_at, signed_maximum_at

if TYPE_CHECKING:
    from jaxsal.saliency.derivative import Derivative
    from jaxsal.types import Triple

SAMPLES, ITEMS = "samples", "items"


def device_mesh(devices: Sequence[jax.Device], samples: int) -> Mesh:
    """Devices as a mesh: as many over the noisy images as these can use, the rest over items.

    The number over the samples divides that of the devices.
    """
    count = len(devices)
    rows = max(n for n in range(1, count + 1) if count % n == 0 and n <= samples)
    return Mesh(np.array(devices).reshape(rows, count // rows), (SAMPLES, ITEMS))


@dataclass(frozen=True)
class Programs:
    """What the engine runs on its devices.

    Attributes:
        derivative: of the logits on a window, at one device's share of the samples.
        mesh: of the devices.
    """

    derivative: Derivative
    mesh: Mesh

    @property
    def sample_devices(self) -> int:
        """Number of devices between which noisy images are shared."""
        return self.mesh.shape[SAMPLES]

    @property
    def item_devices(self) -> int:
        """Number of devices between which the items of a batch are shared."""
        return self.mesh.shape[ITEMS]

    def replicate(self, tree: Any) -> Any:
        """The same arrays on every device."""
        return jax.device_put(tree, NamedSharding(self.mesh, P()))

    def distribute(self, images: jax.Array) -> jax.Array:
        """Noisy images (N, X, Y, Z, C), each on the device that linearises it."""
        return jax.device_put(images, NamedSharding(self.mesh, P(SAMPLES)))

    def prepare(self, parameters: Any) -> Any:
        """See `DenseDerivative.prepare`; on every device."""
        return _prepare(self)(parameters)

    def linearise(self, parameters: Any, images: jax.Array, start: np.ndarray, size: Triple) -> Any:
        """The derivative at the window of this start (3,) in images (N, X, Y, Z, C)."""
        return _linearise(self)(parameters, _cut(self, size)(images, jnp.asarray(start)))

    def pull_back(
        self, prepared: Any, linearised: Any, points: np.ndarray, weights: np.ndarray
    ) -> jax.Array:
        """See `DenseDerivative.pull_back`: gradients (B, N, *box, C), B a multiple of D.

        The box is that of the derivative `near` the points.
        """
        near = Programs(self.derivative.near(points), self.mesh)
        cotangents = _cotangents(near)(jnp.asarray(points), jnp.asarray(weights, jnp.float32))
        return _pull_back(near)(prepared, linearised, cotangents)

    def add(
        self, frames: jax.Array | None, gradients: jax.Array, at: np.ndarray, size: Triple
    ) -> jax.Array:
        """Adds gradients (B, N, *box, C) into frames (B, N, *size, C), each at its corner (B, 3).

        Without frames it begins with zeros.
        """
        if frames is None:
            frames = self._zeros(*gradients.shape[:2], *size, gradients.shape[-1])
        return _add(self)(frames, gradients, jnp.asarray(at))

    def maxima(self, size: Triple, samples: int, channels: int) -> jax.Array:
        """A lesion's maxima before any gradient: zeros (D, N, *size, C)."""
        return self._zeros(self.item_devices, samples, *size, channels)

    def take_maxima(
        self, maxima: jax.Array, gradients: jax.Array, at: np.ndarray, first: int, stop: int
    ) -> jax.Array:
        """Signed maximum of maxima (D, N, X, Y, Z, C) and the gradients of some items of a batch.

        Args:
            maxima: of one lesion.
            gradients: (B, N, *box, C).
            at: (B, 3) corners of the gradients in the lesion's frame.
            first: first item of the batch that belongs to the lesion.
            stop: one past the last.
        """
        each = len(at) // self.item_devices
        begins = each * np.arange(self.item_devices)[:, None]
        spans = np.clip(np.array([first, stop]) - begins, 0, each)
        return _take_maxima(self)(maxima, gradients, jnp.asarray(at), jnp.asarray(spans))

    def _zeros(self, *shape: int) -> jax.Array:
        return jnp.zeros(shape, jnp.float32, device=NamedSharding(self.mesh, P(ITEMS, SAMPLES)))


def _sharded(programs: Programs, function: Any, inputs: Any, outputs: Any, **options: Any) -> Any:
    mapped = jax.shard_map(
        function, mesh=programs.mesh, in_specs=inputs, out_specs=outputs, check_vma=False
    )
    return jax.jit(mapped, **options)


@lru_cache(maxsize=64)
def _prepare(programs: Programs) -> Any:
    return _sharded(programs, programs.derivative.prepare, P(), P())


@lru_cache(maxsize=64)
def _cut(programs: Programs, size: Triple) -> Any:
    """Apart from what follows, which so is compiled once for images of all shapes."""

    def cut(images: jax.Array, start: jax.Array) -> jax.Array:
        return jax.vmap(lambda image: cut_window(image, start, size))(images)

    return _sharded(programs, cut, (P(SAMPLES), P()), P(SAMPLES))


@lru_cache(maxsize=64)
def _linearise(programs: Programs) -> Any:
    def linearise(parameters: Any, windows: jax.Array) -> Any:
        linearised = programs.derivative.linearise(parameters, windows)
        return jax.tree.map(lambda leaf: leaf[None], linearised)  # an axis for the devices

    return _sharded(programs, linearise, (P(), P(SAMPLES)), P(SAMPLES))


@lru_cache(maxsize=64)
def _cotangents(programs: Programs) -> Any:
    return _sharded(programs, programs.derivative.cotangents, (P(ITEMS), P(ITEMS)), P(ITEMS))


@lru_cache(maxsize=64)
def _pull_back(programs: Programs) -> Any:
    def pull_back(prepared: Any, linearised: Any, cotangents: Any) -> Any:
        mine = jax.tree.map(lambda leaf: leaf[0], linearised)
        return programs.derivative.pull_back(prepared, mine, cotangents)

    inputs = (P(), P(SAMPLES), P(ITEMS))
    return _sharded(programs, pull_back, inputs, P(ITEMS, SAMPLES))


@lru_cache(maxsize=64)
def _add(programs: Programs) -> Any:
    both = P(ITEMS, SAMPLES)
    return _sharded(programs, add_at, (both, both, P(ITEMS)), both, donate_argnums=0)


@lru_cache(maxsize=64)
def _take_maxima(programs: Programs) -> Any:
    def take(maxima: jax.Array, gradients: jax.Array, at: jax.Array, spans: jax.Array) -> Any:
        first, stop = spans[0]
        return signed_maximum_at(maxima[0], gradients, at, first, stop)[None]

    both = P(ITEMS, SAMPLES)
    return _sharded(programs, take, (both, both, P(ITEMS), P(ITEMS)), both, donate_argnums=0)
