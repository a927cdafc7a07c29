"""The engine: every item of every lesion, at every noisy image, in batches that fit the memory.

For some of the noisy images, window by window: linearise once, pull back all items of all lesions
that the window reaches, add up what an item gets from its windows, and take the lesion's signed
maximum. One compiled program serves all batches; up to seven others, quicker ones, serve those of
voxels near the edges of a window.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import jax
import numpy as np

from jaxsal.box import Box
from jaxsal.field.plan import pad_image
from jaxsal.saliency.accumulation import LesionMap
from jaxsal.saliency.batches import Batch, Linearisations
from jaxsal.saliency.items import Items
from jaxsal.saliency.layout import Work, layout_within_memory


class Engine:
    """Computes the maps of some lesions, on as many of the devices as the memory suffices for.

    Attributes:
        noise_batch: noisy images at once and device.
        waves: the lesions, by number, that are computed together.

    Args:
        work: what to do.
        voxels: (V, 3) positions of all lesions' voxels in the image.
        items: of all lesions.

    Raises:
        InputError: the memory does not suffice for one device.
    """

    def __init__(self, work: Work, voxels: np.ndarray, items: Items) -> None:
        layout = layout_within_memory(work, voxels, items)
        assert layout.memory is not None  # or it would not be chosen
        self._work, self._windows = layout.work, layout.windows
        self._geometry, self._programs = layout.geometry, layout.programs
        self._keep, self.waves = layout.memory.windows, layout.memory.waves
        self._batch = Batch(layout.memory.items, self._programs.item_devices)
        self.noise_batch = layout.noise_batch
        self._samples = layout.noise_batch * self._programs.sample_devices

    @property
    def devices(self) -> tuple[jax.Device, ...]:
        """The devices that it computes on."""
        return self._work.devices

    @property
    def pull_backs(self) -> int:
        """How many pull-backs one noisy image takes: one per item and window."""
        return int(self._windows.pull_backs.sum())

    def footprint(self, lesion: int) -> Box:
        """Where in the image a lesion's map can be non-zero."""
        return self._geometry.footprint(lesion)

    def maps(self, lesions: Sequence[int]) -> list[LesionMap]:
        """The signed maximum over each lesion's items, averaged over the noisy images."""
        work, boxes = self._work, self._geometry.boxes
        maps = {
            lesion: LesionMap(boxes[lesion], work.channels, squares=work.squares)
            for lesion in lesions
        }
        active = dict(maps)
        for first in range(0, work.noisy.count, self._samples):
            count = min(self._samples, work.noisy.count - first)
            self._add_samples(first, count, active)
            spared = work.noisy.count - first - count
            for lesion in [i for i, one in active.items() if one.is_complete]:
                del active[lesion]
                work.report(spared * int(self._windows.pull_backs[lesion]))
            if not active:
                break
        return list(maps.values())

    def _add_samples(self, first: int, count: int, active: Mapping[int, LesionMap]) -> None:
        """Adds noisy images ``first`` to ``first + count - 1`` to these lesions' maps."""
        plan = self._windows.plan
        noisy = self._work.noisy.take(first, count)
        if count < self._samples:
            noisy = noisy[np.minimum(np.arange(self._samples), count - 1)]  # the last one, repeated
        images = jax.vmap(lambda image: pad_image(image, plan))(noisy)
        pulls = Linearisations(self._programs, self._parameters, images, plan.size, self._keep)
        del noisy, images
        for group in self._windows.groups:
            items = group.items[np.isin(group.items.owners, list(active))]
            for batch, gradients, corners in self._gradients(group.windows, items, pulls):
                for lesion in np.unique(batch.owners):  # its items are next to each other
                    span = np.searchsorted(batch.owners, [lesion, lesion + 1])
                    active[lesion].take(self._programs, gradients, corners, *span)
                self._work.report(count * len(batch) * len(group.windows))
        for lesion_map in active.values():
            lesion_map.finish_samples(count, self._work.devices[0], self._work.tolerance)

    def _gradients(
        self, windows: tuple[int, ...], items: Items, pulls: Linearisations
    ) -> Iterator[tuple[Items, jax.Array, np.ndarray]]:
        """Batches of items with their gradients (B, N, *frame, C) and these frames' corners."""
        geometry, corners = self._geometry, self._geometry.corners

        def compute(batch: Items) -> jax.Array:
            total = None
            frames = corners(windows, batch)
            for window in windows:
                points, weights = self._windows.points(batch, window)
                start = self._windows.plan.starts[window]
                part = self._programs.pull_back(self._prepared, pulls.at(start), points, weights)
                if len(windows) == 1:
                    return part
                near = geometry.derivative.near(points)
                at = geometry.box_corners(window, points, near) - frames
                total = self._programs.add(total, part, at, geometry.frame)
            assert total is not None  # an item has at least one window
            return total

        for batch, count, gradients in self._batch.run(items, compute, pulls.forget):
            yield batch[:count], gradients, corners(windows, batch)

    @cached_property
    def _parameters(self) -> Any:
        return self._programs.replicate(self._work.field.parameters)

    @cached_property
    def _prepared(self) -> Any:
        return self._programs.prepare(self._parameters)
