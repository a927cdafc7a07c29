"""How an engine is laid out: on which devices, how many noisy images, items and lesions at once.

Nothing is computed or compiled for it. Larger layouts are tried first; what the memory suffices for
follows from shapes alone (`jaxsal.saliency.memory_plan`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from jaxsal.errors import InputError
from jaxsal.saliency.books import points_bytes
from jaxsal.saliency.derivative import Derivative, derivative_of
from jaxsal.saliency.geometry import Geometry
from jaxsal.saliency.items import Items, ItemWindows
from jaxsal.saliency.memory import GIB, array_bytes, needs_of
from jaxsal.saliency.memory_plan import (
    ON_ACCELERATOR,
    ON_CPU,
    Demand,
    Enough,
    MemoryPlan,
    fit,
    halvings,
    on_devices,
    samples_at_once,
)
from jaxsal.saliency.programs import Programs, device_mesh
from jaxsal.saliency.schedule import Limits
from jaxsal.settings import FEWEST_SAMPLES
from jaxsal.shapes import Shapes

if TYPE_CHECKING:
    import jax

    from jaxsal.field.plan import LogitField
    from jaxsal.saliency.noise import NoisyImages
    from jaxsal.types import Triple

_LARGEST_BATCH = 32  # gradients at once per GPU or TPU, which is full by then


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
        item_batch: items per pull-back and device; None: the largest number that fits the memory
            and still lowers the time per gradient.
        noise_batch: noisy images at once and device; None: likewise.
        squares: whether standard errors are wanted.
        tolerance: relative standard error at which a lesion needs no more images; or None.
        report: called with the number of gradients, items × images, that were computed.
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


@dataclass(frozen=True)
class Layout:
    """What an engine runs on some devices, at so many noisy images at once.

    Attributes:
        work: what to do, on which devices and within which budget of each.
        windows: which items come from which windows.
        noise_batch: noisy images at once and device.
    """

    work: Work
    windows: ItemWindows
    noise_batch: int

    @cached_property
    def derivative(self) -> Derivative:
        """Of the logits on a window, at a device's noisy images."""
        field, single = self.work.field, self.windows.items.rows.shape[1] == 1
        return derivative_of(
            field.function, field.parameters, self.work.target, self._shape, single=single
        )

    @cached_property
    def programs(self) -> Programs:
        """What the devices run."""
        mesh = device_mesh(self.work.devices, self.work.noisy.count)
        return Programs(self.derivative, mesh, self.geometry.several)

    @cached_property
    def geometry(self) -> Geometry:
        """Where the gradients lie."""
        return Geometry(self.windows, self.derivative, self.work.noisy.count)

    @cached_property
    def memory(self) -> MemoryPlan | None:
        """How the memory is shared out; None if it does not suffice."""
        width = self.width // self.noise_batch
        enough = self._enough_on_cpu if self._on_cpu else ON_ACCELERATOR
        return fit(self.demand, self.work.budget, width, self.work.item_batch, enough)

    @property
    def _enough_on_cpu(self) -> Enough:
        """Room for the work and little more: a CPU takes long to fill it with zeros."""
        frames = _room(len(self.windows.items)) * self.demand.frame
        return replace(ON_CPU, frames=min(ON_CPU.frames, frames))

    def limits(self, memory: MemoryPlan) -> Limits:
        """How much goes at once on each device."""
        return Limits(
            self.programs.item_devices,
            memory.items,
            memory.frames,
            memory.slots,
            memory.windows,
            self.derivative.mixes_windows,
        )

    @property
    def width(self) -> int:
        """Gradients at once and device, noisy images times items, that make full use of it."""
        return self.derivative.largest_cpu_batch if self._on_cpu else _LARGEST_BATCH

    @property
    def best_noise_batch(self) -> int:
        """The noise batch that needs the fewest gradients, whether it fits the memory or not."""
        mesh = self.programs.sample_devices, self.programs.item_devices
        samples = self.work.noisy.count
        if self.work.tolerance is not None:  # a lesion may not need more
            samples = min(samples, FEWEST_SAMPLES)
        return samples_at_once(self.geometry.shares, samples, self.width, mesh)

    @cached_property
    def demand(self) -> Demand:
        """Bytes that each step takes."""
        work, plan = self.work, self.windows.plan
        image = 4 * self.noise_batch * work.channels  # bytes per position
        needs = needs_of(self.derivative, Shapes.of(work.field.parameters), self._shape)
        copies = 4  # of the noisy images, while they are made
        kept = 4 * work.channels * math.prod(work.shape)  # the image itself
        parameters = array_bytes(work.field.parameters) + needs.prepared
        sizes = [math.prod(size) for size in self.geometry.maps]
        # New sums come beside the old ones. A lesion's maxima are united between the devices while
        # nothing is linearised or pulled back.
        in_map = 4 * (2 + self.noise_batch + 2 * work.squares) * work.channels  # per position
        united = (self.programs.sample_devices + 3) * image * max(sizes)
        return Demand(
            fixed=kept + copies * image * math.prod(plan.padded) + parameters + needs.shared,
            linearise=max(needs.linearise, united),
            linearised=needs.linearised,
            window=image * math.prod(plan.size),
            item=needs.pull_back + points_bytes(self.windows.items.rows.shape[1]),
            frame=image * math.prod(self.geometry.frame),
            maps=[in_map * size for size in sizes],
            windows=self.windows.most,
            mixes=self.derivative.mixes_windows,
            distinct=_room(len(plan.starts)),
        )

    @property
    def _on_cpu(self) -> bool:
        return self.work.devices[0].platform == "cpu"

    @property
    def _shape(self) -> tuple[int, ...]:
        return (self.noise_batch, *self.windows.plan.size, self.work.channels)


def layout_within_memory(work: Work, voxels: np.ndarray, items: Items) -> Layout:
    """The layout on as many of the devices as the memory suffices for.

    Args:
        work: what to do; its budget is for all devices together if they share a memory.
        voxels: (V, 3) positions of all lesions' voxels in the image.
        items: of all lesions.

    Raises:
        InputError: the memory does not suffice for one device.
    """
    windows = ItemWindows(work.field.plan(work.shape, voxels), voxels, items)
    shared = work.devices[0].platform == "cpu"

    def attempt(devices: tuple[jax.Device, ...], budget: int) -> Layout | None:
        return _on(replace(work, devices=devices, budget=budget), windows)

    def suffices(layout: Layout) -> bool:
        return not shared or (layout.memory is not None and layout.memory.keeps_enough)

    found = on_devices(work.devices, work.budget, attempt, suffices)
    if found is None:
        single = Layout(replace(work, devices=work.devices[:1]), windows, work.noise_batch or 1)
        raise InputError(
            f"a memory budget of {work.budget / GIB:.3g} GiB is too small for one voxel at a "
            f"time on windows of {windows.plan.size}: it takes about "
            f"{single.demand.least / GIB:.3g} GiB; allow more memory"
        )
    return found


def _room(number: int) -> int:
    """A power of 16 that is no less: few sizes, so that programs are found compiled."""
    room = 1
    while room < number:
        room *= 16
    return room


def _on(work: Work, windows: ItemWindows) -> Layout | None:
    """The layout with the noisy images at once that are asked for, or that need least time."""
    layout = Layout(work, windows, work.noise_batch or 1)
    if layout.memory is None:
        return None
    if work.noise_batch is not None or work.item_batch is not None:
        return layout
    for count in halvings(layout.best_noise_batch):
        larger = layout if count == 1 else Layout(work, windows, count)
        found = larger.memory
        # They must fit without windows being linearised more often.
        if found and found.keeps_enough and len(found.waves) <= len(layout.memory.waves):
            return larger
    return layout
