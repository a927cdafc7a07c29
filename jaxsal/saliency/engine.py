"""The engine: every item of every lesion, at every noise sample, in batches that fit the memory.

For a portion of the noise samples, window by window: linearise once, pull back all items of all
lesions that the window reaches, add up what an item gets from its windows, and take the lesion's
signed maximum. One compiled program serves all batches; up to seven others, quicker ones, serve
those of voxels near the edges of a window.
"""

from __future__ import annotations

import math
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol

import jax
import numpy as np

from jaxsal.box import Box
from jaxsal.errors import InputError
from jaxsal.field.plan import LogitField, pad_image
from jaxsal.saliency.accumulation import LesionMap, frame_size
from jaxsal.saliency.derivative import Derivative, derivative_of
from jaxsal.saliency.items import Items, points_in_window, pull_backs, window_groups
from jaxsal.saliency.memory import GIB, array_bytes, needs_of
from jaxsal.saliency.portions import power_of_two_within, samples_at_once
from jaxsal.saliency.programs import Programs, device_mesh
from jaxsal.settings import FEWEST_SAMPLES
from jaxsal.shapes import Shapes
from jaxsal.types import Triple

MAPS_SHARE = 0.3  # of the memory budget, at most, for the maps of lesions computed together
_LINEARISATIONS_SHARE = 0.4  # of the rest, for the windows kept linearised
_LARGEST_BATCH = 32  # gradients at once per GPU or TPU, which is full by then


class NoisyImages(Protocol):
    """Where the noisy images come from."""

    @property
    def count(self) -> int:
        """How many there are."""
        ...

    def __call__(self, first: int, count: int) -> jax.Array:
        """(N, X, Y, Z, C): ``count`` noisy images, beginning with number ``first``."""
        ...


@dataclass(frozen=True)
class Work:
    """What to differentiate, on what, and within which limits.

    Attributes:
        field: the logits as a function of the image.
        target: output channel.
        noisy: the noisy images.
        shape: the image's grid (X, Y, Z).
        channels: C.
        devices: to share the work between.
        budget: bytes to stay within on each of them, or on all together if they share a memory.
        item_batch: items per pull-back and device; None: as many as pay and fit.
        noise_batch: noise samples at once and device; None: as many as pay and fit.
        squares: whether standard errors are wanted.
        tolerance: relative standard error at which a lesion needs no more samples; or None.
        report: told for how many items × samples gradients were computed.
    """

    field: LogitField
    target: int
    noisy: NoisyImages
    shape: Triple
    channels: int
    devices: tuple[jax.Device, ...]
    budget: int
    item_batch: int | None
    noise_batch: int | None
    squares: bool
    tolerance: float | None
    report: Callable[[int], None] = lambda count: None


def engine_within_memory(work: Work, voxels: np.ndarray, items: Items) -> Engine:
    """An engine on as many of the devices as the memory suffices for; see `Engine`.

    Raises:
        InputError: it does not suffice for one device.
    """
    shared = work.devices[0].platform == "cpu"
    count = len(work.devices)
    while True:
        budget = work.budget // count if shared else work.budget
        try:
            engine = _engine_of(
                replace(work, devices=work.devices[:count], budget=budget), voxels, items
            )
        except InputError:
            if count == 1 or not shared:
                raise
        else:
            if count == 1 or not shared or engine.keeps_enough:
                return engine
        count //= 2


def _engine_of(work: Work, voxels: np.ndarray, items: Items) -> Engine:
    """An engine that takes as many noise samples at once as are asked for, or as pay and fit."""
    engine = Engine(work, voxels, items, work.noise_batch or 1)
    if work.noise_batch is not None or work.item_batch is not None:
        return engine
    count = engine.samples_that_pay
    while count > 1:
        try:
            larger = Engine(work, voxels, items, count)
        except InputError:  # the memory does not suffice
            pass
        else:
            if larger.keeps_enough and larger.wave_count <= engine.wave_count:
                return larger
        count //= 2
    return engine


class Engine:
    """Computes the maps of some lesions; see the module.

    Attributes:
        noise_batch: noise samples at once and device.

    Args:
        work: what to do.
        voxels: (V, 3) positions of all lesions' voxels in the image.
        items: of all lesions.
        noise_batch: noise samples at once and device.

    Raises:
        InputError: the memory does not suffice for a single item.
    """

    def __init__(self, work: Work, voxels: np.ndarray, items: Items, noise_batch: int) -> None:
        self._work, self._voxels, self._items = work, voxels, items
        self.noise_batch = noise_batch
        self._plan = work.field.plan(work.shape, voxels)
        self._groups = window_groups(self._plan, items)
        windows = (noise_batch, *self._plan.size, work.channels)
        self._derivative = derivative_of(
            work.field.function,
            work.field.parameters,
            work.target,
            windows,
            single=items.rows.shape[1] == 1,
        )
        self._programs = Programs(self._derivative, device_mesh(work.devices, work.noisy.count))
        self._samples = noise_batch * self._programs.sample_devices
        self._frame, self._boxes = self._extents()
        self._batch, self._keep, self._for_maps = self._portions()

    @property
    def devices(self) -> tuple[jax.Device, ...]:
        """The devices that it computes on."""
        return self._work.devices

    @property
    def keeps_enough(self) -> bool:
        """Whether all windows that reach a voxel can be kept linearised at once."""
        return self._keep >= max(len(group.windows) for group in self._groups)

    @property
    def samples_that_pay(self) -> int:
        """How many noise samples at once and device need the fewest gradients; may not fit."""
        mesh = self._programs.sample_devices, self._programs.item_devices
        samples = self._work.noisy.count
        if self._work.tolerance is not None:  # a lesion may not need more
            samples = min(samples, FEWEST_SAMPLES)
        return samples_at_once(self._groups, samples, self._width, mesh)

    @property
    def _width(self) -> int:
        """Gradients at once and device, noise samples times items, that make full use of it."""
        on_cpu = self._work.devices[0].platform == "cpu"
        return self._derivative.largest_cpu_batch if on_cpu else _LARGEST_BATCH

    @property
    def wave_count(self) -> int:
        """How many waves the lesions take."""
        return sum(1 for _ in self.waves())

    @property
    def pull_backs(self) -> int:
        """How many pull-backs one noise sample takes: one per item and window."""
        return int(self._pull_backs.sum())

    @cached_property
    def _pull_backs(self) -> np.ndarray:
        return pull_backs(self._groups, len(self._boxes))

    def footprint(self, lesion: int) -> Box:
        """Where in the image a lesion's map can be non-zero."""
        rows = np.unique(self._items.rows[self._items.owners == lesion])
        return self._plan.footprint(self._voxels, rows[rows >= 0]) & self._boxes[lesion]

    def waves(self) -> Iterator[list[int]]:
        """Lesions to compute together: as many, in their order, as their maps fit the memory."""
        wave: list[int] = []
        used = 0
        for lesion, size in enumerate(self._map_bytes()):
            if wave and used + size > self._for_maps:
                yield wave
                wave, used = [], 0
            wave.append(lesion)
            used += size
        if wave:
            yield wave

    def _map_bytes(self) -> list[int]:
        """What the map of each lesion takes while it is computed."""
        copies = 2 + self.noise_batch + self._work.squares
        each = 4 * copies * self._work.channels
        return [each * math.prod(frame_size(box.shape)) for box in self._boxes]

    def maps(self, lesions: Sequence[int]) -> list[LesionMap]:
        """The signed maximum over each lesion's items, averaged over the noise samples."""
        work = self._work
        maps = {
            lesion: LesionMap(self._boxes[lesion], work.channels, squares=work.squares)
            for lesion in lesions
        }
        active = dict(maps)
        for first in range(0, work.noisy.count, self._samples):
            count = min(self._samples, work.noisy.count - first)
            self._add_samples(first, count, active)
            spared = work.noisy.count - first - count
            for lesion in [i for i, one in active.items() if one.is_complete]:
                del active[lesion]
                work.report(spared * int(self._pull_backs[lesion]))
            if not active:
                break
        return list(maps.values())

    def _add_samples(self, first: int, count: int, active: Mapping[int, LesionMap]) -> None:
        """Adds noise samples ``first`` to ``first + count - 1`` to these lesions' maps."""
        noisy = self._work.noisy(first, count)
        if count < self._samples:
            noisy = noisy[np.minimum(np.arange(self._samples), count - 1)]  # the last one, repeated
        images = jax.vmap(lambda image: pad_image(image, self._plan))(noisy)
        pulls = Linearisations(
            self._programs, self._parameters, images, self._plan.size, self._keep
        )
        del noisy, images
        for group in self._groups:
            items = group.items[np.isin(group.items.owners, list(active))]
            for batch, gradients, corners in self._gradients(group.windows, items, pulls):
                self._hand_out(batch, gradients, corners, active)
                self._work.report(count * len(batch) * len(group.windows))
        for lesion_map in active.values():
            lesion_map.finish_samples(count, self._work.devices[0], self._work.tolerance)

    def _gradients(
        self, windows: tuple[int, ...], items: Items, pulls: Linearisations
    ) -> Iterator[tuple[Items, jax.Array, np.ndarray]]:
        """Batches of items with their gradients (B, N, *frame, C) and these frames' corners."""

        def compute(batch: Items) -> jax.Array:
            total = None
            corners = self._corners(windows, batch)
            for window in windows:
                points, weights = points_in_window(self._plan, self._voxels, batch, window)
                part = self._programs.pull_back(
                    self._prepared, pulls.at(self._plan.starts[window]), points, weights
                )
                if len(windows) == 1:
                    return part
                at = self._box_corners(window, points, self._derivative.near(points))
                total = self._programs.add(total, part, at - corners, self._frame)
            assert total is not None  # an item has at least one window
            return total

        for batch, count, gradients in self._batch.run(items, compute, pulls.forget):
            yield batch[:count], gradients, self._corners(windows, batch)

    def _hand_out(
        self,
        batch: Items,
        gradients: jax.Array,
        corners: np.ndarray,
        active: Mapping[int, LesionMap],
    ) -> None:
        """Gives each lesion its gradients; those of a lesion are next to each other."""
        for lesion in np.unique(batch.owners):
            first, stop = np.searchsorted(batch.owners, [lesion, lesion + 1])
            active[lesion].take(self._programs, gradients, corners, first, stop)

    def _corners(self, windows: Sequence[int], items: Items) -> np.ndarray:
        """Where in the image (B, 3) the frames of items' gradients begin."""
        if len(windows) == 1:  # the frame is the box
            points = self._points(items, windows[0])
            return self._box_corners(windows[0], points, self._derivative.near(points))
        boxes = [
            self._box_corners(window, self._points(items, window), self._derivative)
            for window in windows
        ]
        return np.min(boxes, axis=0)

    def _box_corners(self, window: int, points: np.ndarray, derivative: Derivative) -> np.ndarray:
        origin = self._plan.starts[window] - np.array(self._plan.before)
        return origin + derivative.starts(points)

    def _extents(self) -> tuple[Triple, list[Box]]:
        """Size of the frames of items with several windows; the boxes that hold lesions' frames."""
        box = np.array(self._derivative.box)
        spans = []  # per group: owners, first positions (B, 3), positions past the last
        for group in self._groups:
            boxes = [
                self._box_corners(window, self._points(group.items, window), self._derivative)
                for window in group.windows
            ]
            spans.append((group.items.owners, np.min(boxes, axis=0), np.max(boxes, axis=0) + box))
        several = [
            (high - low).max(axis=0)
            for group, (_, low, high) in zip(self._groups, spans, strict=True)
            if len(group.windows) > 1
        ]
        frame = frame_size(np.max(several, axis=0) if several else box)
        lesions = int(self._items.owners.max()) + 1
        lows = np.full((lesions, 3), np.iinfo(int).max)
        highs = np.full((lesions, 3), np.iinfo(int).min)
        for group, (owners, low, _) in zip(self._groups, spans, strict=True):
            size = frame if len(group.windows) > 1 else box
            np.minimum.at(lows, owners, low)
            np.maximum.at(highs, owners, low + size)
        return frame, list(map(Box, lows, highs))

    def _points(self, items: Items, window: int) -> np.ndarray:
        return points_in_window(self._plan, self._voxels, items, window)[0]

    def _portions(self) -> tuple[Batch, int, int]:
        """What fits the memory: batch size, windows to keep linearised, bytes for maps.

        Raises:
            InputError: it does not suffice for a single item.
        """
        work, plan = self._work, self._plan
        image = 4 * self.noise_batch * work.channels  # bytes per position
        needs = needs_of(
            self._derivative,
            Shapes.of(work.field.parameters),
            (self.noise_batch, *plan.size, work.channels),
            self._items.rows.shape[1],
        )
        several = any(len(group.windows) > 1 for group in self._groups)
        each = needs.pull_back + (image * math.prod(self._frame) if several else 0)
        copies = 3 * self._programs.sample_devices + 1  # noisy ones are made on one device
        parameters = array_bytes(work.field.parameters) + needs.prepared
        fixed = copies * image * math.prod(plan.padded) + parameters
        least = fixed + needs.linearised + max(needs.linearise, each)
        maps = self._map_bytes()
        if work.budget < least + max(maps):
            raise InputError(
                f"a memory budget of {work.budget / GIB:.3g} GiB is too small for one voxel at a "
                f"time on windows of {plan.size}: it takes about "
                f"{(least + max(maps)) / GIB:.3g} GiB; allow more memory"
            )
        share = min(MAPS_SHARE * work.budget, work.budget - least)
        for_maps = int(min(sum(maps), max(share, max(maps))))
        available = work.budget - for_maps - fixed
        room = min(_LINEARISATIONS_SHARE * available, available - max(needs.linearise, each))
        most = max(len(group.windows) for group in self._groups)
        # A derivative that is zero everywhere takes no memory.
        keep = min(max(int(room // max(needs.linearised, 1)), 1), 2 * most)
        fitting = int((available - keep * needs.linearised) // max(each, 1))
        paying = self._width // self.noise_batch
        per_device = work.item_batch or power_of_two_within(min(fitting, paying))
        return Batch(per_device, self._programs.item_devices), keep, for_maps

    @cached_property
    def _parameters(self) -> Any:
        return self._programs.replicate(self._work.field.parameters)

    @cached_property
    def _prepared(self) -> Any:
        return self._programs.prepare(self._parameters)


class Linearisations:
    """The derivatives at the windows of some noisy images, the most recently used ones kept.

    Args:
        programs: to compute them with.
        parameters: of the network.
        images: (N, X, Y, Z, C) noisy images on the padded grid.
        size: of a window.
        keep: how many windows to keep linearised.
    """

    def __init__(
        self, programs: Programs, parameters: Any, images: jax.Array, size: Triple, keep: int
    ) -> None:
        self._programs, self._parameters = programs, parameters
        self._images, self._size, self._keep = programs.distribute(images), size, keep
        self._kept: OrderedDict[tuple[int, ...], Any] = OrderedDict()

    def at(self, start: np.ndarray) -> Any:
        """The derivative at the window that begins at this position (3,) of the padded grid."""
        key = tuple(start.tolist())
        linearised = self._kept.pop(key, None)
        if linearised is None:
            while len(self._kept) >= self._keep:
                self._kept.popitem(last=False)
            linearised = self._programs.linearise(self._parameters, self._images, start, self._size)
        self._kept[key] = linearised
        return linearised

    def forget(self) -> bool:
        """Drops what is kept, and keeps half as many from now on; false if it kept but one."""
        if self._keep == 1:
            return False
        self._kept.clear()
        self._keep //= 2
        return True


class Batch:
    """How many items go through a computation at once; halved when memory runs out.

    Args:
        size: number of items per device.
        devices: between which a batch is shared.
    """

    def __init__(self, size: int, devices: int = 1) -> None:
        self.size, self._devices = size, devices
        self._warned = False

    def run(
        self,
        items: Items,
        compute: Callable[[Items], jax.Array],
        relieve: Callable[[], bool] = lambda: False,
    ) -> Iterator[tuple[Items, int, jax.Array]]:
        """Puts all items through a computation, in batches of one size.

        Args:
            items: what to compute for.
            compute: from a batch of items to results; the last batch is filled up by repeating
                its last item.
            relieve: called when memory runs out; whether it could free any.

        Yields:
            The batch, how many of its items are not repetitions, and the results.
        """
        first = 0
        while first < len(items):
            size = self.size * self._devices
            batch = items[first : first + size]
            count = len(batch)
            batch = batch.filled(size)
            try:
                results = jax.block_until_ready(compute(batch))
            except jax.errors.JaxRuntimeError as error:
                relieved = "RESOURCE_EXHAUSTED" in str(error) and relieve()
                if "RESOURCE_EXHAUSTED" not in str(error) or (self.size == 1 and not relieved):
                    raise
                self._shrink()
                continue
            yield batch, count, results
            first += count

    def _shrink(self) -> None:
        self.size = max(self.size // 2, 1)
        if not self._warned:
            warnings.warn(
                "the device ran out of memory: going on in smaller batches, which give the same "
                "results; a smaller memory budget avoids this",
                stacklevel=3,
            )
        self._warned = True
