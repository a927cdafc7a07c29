"""The compiled programs of the engine, their work shared between the devices of a host.

Each does a long portion of the work in a loop on the device, whose bounds are data: windows are
linearised into slots, items are pulled back through them batch after batch and added into frames,
and frames are taken into the lesions' maxima. Those that run the network depend on the size of
windows, boxes and batches; never on the image's shape, or on how many lesions there are and how
large. Hence maxima are taken in a program of their own, which compiles in a moment.

Devices form a mesh of two axes: over one go the noisy images, over the other the items. Every
device linearises the windows of its own samples and pulls its own items back. Only `finish`
communicates: there the maxima of all devices are united.

Axes of arrays: D devices along the item axis, K slots, M frames, L lesions, N noisy images of all
devices, then X, Y, Z and C. What the devices have of the K, M or L stands one after the other along
one axis, "D M": an axis of its own for the devices would have to be taken off inside, and XLA then
chooses other layouts for axes of length one and copies the whole array.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxsal.compilation import compiled
from jaxsal.field.plan import cut_window, pad
from jaxsal.saliency.aggregate import add_samples, signed_maximum

if TYPE_CHECKING:
    from jaxsal.saliency.books import Book, Edges
    from jaxsal.saliency.derivative import Derivative
    from jaxsal.saliency.schedule import FrameMerge
    from jaxsal.types import Triple

SAMPLES, ITEMS = "samples", "items"
Array: TypeAlias = jax.Array | np.ndarray
_BOTH = P(ITEMS, SAMPLES)


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
        several: whether an item may be reached by several windows, whose gradients add up in its
            frame; else its frame holds a single one.
    """

    derivative: Derivative
    mesh: Mesh
    several: bool

    @property
    def sample_devices(self) -> int:
        """Number of devices between which noisy images are shared."""
        return self.mesh.shape[SAMPLES]

    @property
    def item_devices(self) -> int:
        """Number of devices between which items are shared."""
        return self.mesh.shape[ITEMS]

    def replicate(self, tree: Any) -> Any:
        """The same arrays on every device."""
        return jax.device_put(tree, NamedSharding(self.mesh, P()))

    def share(self, tree: Any) -> Any:
        """Arrays of a leading axis D, each part on its devices along the item axis."""
        return jax.device_put(tree, NamedSharding(self.mesh, P(ITEMS)))

    def zeros(self, count: int, *shape: int) -> jax.Array:
        """Zeros (D count, *shape), of which each device along the item axis has ``count``."""
        sharding = NamedSharding(self.mesh, _BOTH)
        return jnp.zeros((self.item_devices * count, *shape), jnp.float32, device=sharding)

    def prepare(self, parameters: Any) -> Any:
        """See `DenseDerivative.prepare`; on every device."""
        return _prepare(self)(parameters)

    def noisy(
        self,
        make: Any,
        image: jax.Array,
        common: Any,
        of_each: Array,
        before: Triple,
        padded: Triple,
    ) -> jax.Array:
        """Noisy images (N, X, Y, Z, C) on a padded grid, made where they are linearised.

        Args:
            make: how, as `NoisyImages.make`.
            image: without noise, on every device.
            common: what is the same for all of them, on every device.
            of_each: what each of them takes (N, …).
            before: zeros added before each axis.
            padded: size of the padded grid.
        """
        return _noisy(self, make, before, padded)(image, common, of_each)

    def cut(self, images: jax.Array, starts: Array, size: Triple) -> jax.Array:
        """Windows (D Q, N, *size, C) of images (N, X, Y, Z, C) at these starts (D, Q, 3)."""
        return _cut(self, size)(images, starts)

    def slots(self, parameters: Any, windows: jax.Array, count: int) -> Any:
        """Room for the derivatives at so many windows like those that `cut` returns."""
        return _slots(self, count)(parameters, windows)

    def linearise(
        self, parameters: Any, slots: Any, windows: jax.Array, places: Array, counts: Array
    ) -> Any:
        """The slots, with the derivatives at the first windows; the given slots are used up.

        Args:
            parameters: of the network.
            slots: from `slots`; of no use where windows cannot be mixed.
            windows: from `cut`.
            places: (D, Q) slot of each window.
            counts: (D,) how many of them to linearise; where they cannot be mixed it is the first.
        """
        if not self.derivative.mixes_windows:
            return _linearise(self)(parameters, windows)
        return _fill(self)(parameters, slots, windows, places, counts)

    def pull_back(
        self,
        edges: Edges,
        prepared: Any,
        slots: Any,
        frames: jax.Array,
        book: Book,
        bounds: np.ndarray,
    ) -> tuple[jax.Array, jax.Array]:
        """The frames (D M, N, *frame, C) with the gradients of some batches; those are used up.

        Args:
            edges: of the points; see `DenseDerivative.near`.
            prepared: from `prepare`.
            slots: from `linearise`.
            frames: one per item of a chunk, and one for what fills up batches.
            book: with the batches.
            bounds: (D, 2) first batch, and one past the last.

        Returns:
            The frames, and a small array that is there once they are.
        """
        return _pull_back(self, edges)(prepared, slots, frames, book, bounds)

    def merge(
        self, maxima: jax.Array, frames: jax.Array, merge: FrameMerge
    ) -> tuple[jax.Array, jax.Array]:
        """Signed maximum of maxima (D L, N, *size, C) and some frames; both are used up.

        Frames into which several windows are added are zero again afterwards.
        """
        return _merge(self)(maxima, frames, merge)

    def finish(
        self,
        maxima: jax.Array,
        sums: Any,
        lesions: int,
        count: int,
        samples: Array,
        tolerance: float | None,
    ) -> tuple[jax.Array, Any, jax.Array]:
        """Adds the maxima, which are used up, at the first ``count`` images to the sums.

        The given sums stay, for when the device fails meanwhile.

        Args:
            maxima: (D L, N, *size, C), of which the devices' are united.
            sums: total (L, *size, C), and squares or None; the same on all devices.
            lesions: how many of the L there are.
            count: how many of the N images are no repetitions.
            samples: (L,) images added so far to each lesion; negative for a complete one.
            tolerance: relative standard error at which a lesion is complete.

        Returns:
            The maxima, which are zero again; the sums; and the samples.
        """
        return _finish(self, tolerance)(maxima, sums, lesions, count, samples)


def _sharded(programs: Programs, function: Any, inputs: Any, outputs: Any, **options: Any) -> Any:
    mapped = jax.shard_map(
        function, mesh=programs.mesh, in_specs=inputs, out_specs=outputs, check_vma=False
    )
    return compiled(mapped, platform=programs.mesh.devices.flat[0].platform, **options)


@lru_cache(maxsize=64)
def _prepare(programs: Programs) -> Any:
    return _sharded(programs, programs.derivative.prepare, P(), P())


@lru_cache(maxsize=64)
def _noisy(programs: Programs, make: Any, before: Triple, padded: Triple) -> Any:
    def noisy(image: jax.Array, common: Any, of_each: Any) -> jax.Array:
        return jax.vmap(lambda one: pad(one, before, padded))(make(image, common, of_each))

    inputs = (P(), P(), P(SAMPLES))
    placed = tuple(NamedSharding(programs.mesh, spec) for spec in inputs)  # given from the host
    return _sharded(programs, noisy, inputs, P(SAMPLES), in_shardings=placed)


@lru_cache(maxsize=64)
def _cut(programs: Programs, size: Triple) -> Any:
    """Apart from what follows, which so is compiled once for images of all shapes."""

    def cut(images: jax.Array, starts: jax.Array) -> jax.Array:
        def window(start: jax.Array) -> jax.Array:
            return jax.vmap(lambda image: cut_window(image, start, size))(images)

        return lax.map(window, starts[0])

    return _sharded(programs, cut, (P(SAMPLES), P(ITEMS)), _BOTH)


@lru_cache(maxsize=64)
def _slots(programs: Programs, count: int) -> Any:
    def slots(parameters: Any, windows: jax.Array) -> Any:
        one = jax.eval_shape(programs.derivative.linearise, parameters, windows[0])
        return jax.tree.map(lambda leaf: jnp.zeros((count, *leaf.shape[1:]), leaf.dtype), one)

    return _sharded(programs, slots, (P(), _BOTH), _BOTH)


@lru_cache(maxsize=64)
def _fill(programs: Programs) -> Any:
    def linearise(
        parameters: Any, slots: Any, windows: jax.Array, places: jax.Array, counts: jax.Array
    ) -> Any:
        def put(index: jax.Array, slots: Any) -> Any:
            new = programs.derivative.linearise(parameters, windows[index])
            return jax.tree.map(
                lambda leaf, value: lax.dynamic_update_slice_in_dim(
                    leaf, value, places[0, index], axis=0
                ),
                slots,
                new,
            )

        return lax.fori_loop(0, counts[0], put, slots)

    inputs = (P(), _BOTH, _BOTH, P(ITEMS), P(ITEMS))
    return _sharded(programs, linearise, inputs, _BOTH, donate_argnums=1)


@lru_cache(maxsize=64)
def _linearise(programs: Programs) -> Any:
    def linearise(parameters: Any, windows: jax.Array) -> Any:
        linearised = programs.derivative.linearise(parameters, windows[0])
        return jax.tree.map(lambda leaf: leaf[None, None], linearised)

    return _sharded(programs, linearise, (P(), _BOTH), _BOTH)


@lru_cache(maxsize=64)
def _pull_back(programs: Programs, edges: Edges) -> Any:
    near = programs.derivative.near(edges)

    def pull_back(
        prepared: Any, slots: Any, frames: jax.Array, book: Book, bounds: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        book = jax.tree.map(lambda leaf: leaf[0], book)
        if not near.mixes_windows:
            slots = jax.tree.map(lambda leaf: leaf[0, 0], slots)

        def batch(index: jax.Array, frames: jax.Array) -> jax.Array:
            gradients = near.pull_back(prepared, slots, near.cotangents(book, index))
            return _put(frames, gradients, book.frames[index], book.at[index], add=programs.several)

        first, stop = bounds[0]
        return lax.fori_loop(first, stop, batch, frames), stop[None, None]

    inputs = (P(), _BOTH, _BOTH, P(ITEMS), P(ITEMS))
    return _sharded(programs, pull_back, inputs, (_BOTH, _BOTH), donate_argnums=2)


def _put(
    frames: jax.Array, gradients: jax.Array, places: jax.Array, at: jax.Array, *, add: bool
) -> jax.Array:
    """Frames (M, N, X, Y, Z, C) with gradients (B, N, x, y, z, C) in some, zero around them.

    Args:
        frames: where to put them.
        gradients: of a batch.
        places: (B,) the frame of each.
        at: (B, 3) where its box begins in the frame.
        add: whether to add to what is there; else it is replaced.
    """
    size = (1, *frames.shape[1:])

    def put(index: jax.Array, frames: jax.Array) -> jax.Array:
        gradient, frame = gradients[index][None], (places[index], 0, 0, 0, 0, 0)
        inside = (0, 0, *at[index], 0)
        if add:
            corner = (places[index], *inside[1:])
            current = lax.dynamic_slice(frames, corner, gradient.shape)
            return lax.dynamic_update_slice(frames, current + gradient, corner)
        if gradient.shape != size:
            zeros = jnp.zeros(size, frames.dtype)
            gradient = lax.dynamic_update_slice(zeros, gradient, inside)
        return lax.dynamic_update_slice(frames, gradient, frame)

    return lax.fori_loop(0, len(gradients), put, frames)


@lru_cache(maxsize=64)
def _merge(programs: Programs) -> Any:
    def merge(
        maxima: jax.Array, frames: jax.Array, merge: FrameMerge
    ) -> tuple[jax.Array, jax.Array]:
        one = (1, *frames.shape[1:])
        places, spare = merge.frames[0], frames.shape[0] - 1

        def clear(frames: jax.Array, place: jax.Array | int) -> jax.Array:
            zeros = jnp.zeros(one, frames.dtype)
            return lax.dynamic_update_slice(frames, zeros, (place, 0, 0, 0, 0, 0))

        def take(index: jax.Array, state: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
            maxima, frames, before = state
            if programs.several:  # a turn after it was read: in the same, XLA copies all frames
                frames = clear(frames, before)
            source = (places[index], 0, 0, 0, 0, 0)
            corner = (merge.lesions[0, index], 0, *merge.at[0, index], 0)
            frame = lax.dynamic_slice(frames, source, one)
            united = signed_maximum(lax.dynamic_slice(maxima, corner, one), frame)
            return lax.dynamic_update_slice(maxima, united, corner), frames, places[index]

        state = maxima, frames, jnp.array(spare, places.dtype)
        maxima, frames, last = lax.fori_loop(0, merge.counts[0], take, state)
        return maxima, clear(frames, last) if programs.several else frames

    inputs = (_BOTH, _BOTH, P(ITEMS))
    return _sharded(programs, merge, inputs, (_BOTH, _BOTH), donate_argnums=(0, 1))


@lru_cache(maxsize=64)
def _finish(programs: Programs, tolerance: float | None) -> Any:
    def finish(
        maxima: jax.Array, sums: Any, lesions: jax.Array, count: jax.Array, samples: jax.Array
    ) -> tuple[jax.Array, Any, jax.Array]:
        def lesion(index: jax.Array, state: Any) -> Any:
            maxima, sums, samples = state
            # The last lesion's, a turn after they were read: in the same, XLA copies all maxima.
            before = jnp.maximum(index - 1, 0)
            maxima = maxima.at[before].set(jnp.where(index > 0, 0, maxima[before]))
            added, number = add_samples(
                jax.tree.map(lambda leaf: leaf[index], sums),
                _unite(maxima[index], programs.item_devices),
                count,
                samples[index],
                tolerance,
            )
            sums = jax.tree.map(lambda leaf, new: leaf.at[index].set(new), sums, added)
            return maxima, sums, samples.at[index].set(number)

        maxima, sums, samples = lax.fori_loop(0, lesions, lesion, (maxima, sums, samples))
        return maxima.at[lesions - 1].set(0), sums, samples

    inputs, outputs = (_BOTH, P(), P(), P(), P()), (_BOTH, P(), P())
    return _sharded(programs, finish, inputs, outputs, donate_argnums=0)


def _unite(maxima: jax.Array, devices: int) -> jax.Array:
    """A lesion's maxima (N, X, Y, Z, C) at all images, from those of every device at its own.

    Maxima go round the devices of the item axis, so that none holds those of all.
    """
    ring = [(i, (i + 1) % devices) for i in range(devices)]

    def meet(_: jax.Array, state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        united, passing = state
        passing = lax.ppermute(passing, ITEMS, ring)
        return signed_maximum(united, passing), passing

    united, _ = lax.fori_loop(0, devices - 1, meet, (maxima, maxima))
    return lax.all_gather(united, SAMPLES, tiled=True)
