"""The engine: every item of every lesion, at every noisy image, in portions that run by themselves.

What the devices do at a noisy image is planned once per wave (`jaxsal.saliency.schedule`), and anew
when some of its lesions need no more images. It is sent to them, and followed for some of the
images at a time (`jaxsal.saliency.portion`). When memory runs out or a device is lost, these images
are done again, with less at once (items, noisy images, slots, then frames are halved) or on other
devices; what was summed up before is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import jax
import numpy as np

from jaxsal.box import Box
from jaxsal.devices import computes, ran_out_of_memory
from jaxsal.errors import warn
from jaxsal.saliency.accumulation import Added, LesionMap, MapGroup
from jaxsal.saliency.items import Items
from jaxsal.saliency.layout import Work, layout_within_memory
from jaxsal.saliency.portion import Portions
from jaxsal.saliency.schedule import schedule


class Engine:
    """Computes the maps of some lesions, on as many of the devices as the memory suffices for.

    Args:
        work: what to do.
        voxels: (V, 3) positions of all lesions' voxels in the image.
        items: of all lesions.

    Attributes:
        waves: the lesions, by number, that are computed together.

    Raises:
        InputError: the memory does not suffice for one device.
    """

    def __init__(self, work: Work, voxels: np.ndarray, items: Items) -> None:
        self._work, self._voxels, self._items = work, voxels, items
        self._lay_out(work)
        self.waves = self._memory.waves
        self._done = self._told = 0  # gradients; some are done twice when a device is lost
        self._ran_out = False

    def _lay_out(self, work: Work) -> None:
        """Lays out the work with bytes as its own devices count them."""
        with jax.default_device(work.devices[0]):
            self._layout = layout_within_memory(work, self._voxels, self._items)
            assert self._layout.memory is not None  # or it would not be chosen
            self._memory = self._layout.memory
        self._work = work

    @property
    def devices(self) -> tuple[jax.Device, ...]:
        """The devices that it computes on."""
        return self._layout.work.devices

    @property
    def noise_batch(self) -> int:
        """Noisy images at once and device."""
        return self._layout.noise_batch

    @property
    def pull_backs(self) -> int:
        """How many pull-backs one noisy image takes: one per item and window."""
        return int(self._layout.windows.pull_backs.sum())

    def footprint(self, lesion: int) -> Box:
        """Where in the image a lesion's map can be non-zero."""
        return self._layout.geometry.footprint(lesion)

    def maps(self, lesions: Sequence[int]) -> list[LesionMap]:
        """The signed maximum over each lesion's items, averaged over the noisy images.

        Raises:
            JaxRuntimeError: the devices fail even with least at once, or none of them is left.
        """
        groups = self._groups(lesions)
        first, portions = 0, None
        while first < self._work.noisy.count and any(group.active for group in groups):
            before = self._done
            try:
                with jax.default_device(self.devices[0]):
                    portions = portions or self._portions(groups)
                    count = min(portions.samples, self._work.noisy.count - first)
                    portions.run(first, count)
                    added = [group.added(count, self._work.tolerance) for group in groups]
            except jax.errors.JaxRuntimeError as error:
                portions, self._done = None, before
                if not self._recovers(error, groups):
                    raise
                continue
            first += count
            if self._keep(groups, added, first):
                portions = None  # the schedule has lesions that need no more images
        boxes = self._layout.geometry.boxes
        found = {k: v for g in groups for k, v in g.maps([box.start for box in boxes]).items()}
        return [found[lesion] for lesion in lesions]

    def _groups(self, lesions: Sequence[int]) -> list[MapGroup]:
        """The lesions by the size of their maps."""
        sizes, work = self._layout.geometry.maps, self._work
        by_size: dict[tuple[int, int, int], list[int]] = {}
        for lesion in lesions:
            by_size.setdefault(sizes[lesion], []).append(lesion)
        return [
            MapGroup(own, size, work.channels, squares=work.squares)
            for size, own in by_size.items()
        ]

    def _portions(self, groups: Sequence[MapGroup]) -> Portions:
        limits = self._layout.limits(self._memory)
        pairs = self._layout.geometry.pairs([group.active for group in groups])
        return Portions(self._layout, limits, schedule(pairs, limits), groups, self._report)

    def _keep(self, groups: Sequence[MapGroup], added: Sequence[Added], done: int) -> bool:
        """Keeps all groups' new sums, after which none can fail; whether a lesion is complete.

        Args:
            groups: of lesions.
            added: sums of each, with the last images.
            done: images that were computed, these included.
        """
        before = [group.active for group in groups]
        for group, sums in zip(groups, added, strict=True):
            group.keep(sums)
        complete = [
            lesion
            for group, active in zip(groups, before, strict=True)
            for lesion in active
            if lesion not in group.active
        ]
        spared = self._work.noisy.count - done
        self._report(spared * int(self._layout.windows.pull_backs[complete].sum()))
        return bool(complete)

    def _report(self, gradients: int) -> None:
        self._done += gradients
        if self._done > self._told:
            self._work.report(self._done - self._told)
            self._told = self._done

    def _recovers(self, error: Exception, groups: Sequence[MapGroup]) -> bool:
        """Whether the work can go on after an error; if so, how has been decided."""
        left = tuple(device for device in self.devices if computes(device))
        if 0 < len(left) < len(self.devices):
            warn(
                f"{len(self.devices) - len(left)} of {len(self.devices)} devices no longer compute "
                "and are left out; the maps are the same",
            )
            self._lay_out_again(groups, left, self.noise_batch)
            return True
        if not (left and ran_out_of_memory(error) and self._does_less(groups)):
            return False
        if not self._ran_out:
            warn(
                "the device ran out of memory: going on in smaller batches, which give the same "
                "results; a smaller memory budget avoids this",
            )
        self._ran_out = True
        return True

    def _does_less(self, groups: Sequence[MapGroup]) -> bool:
        """Has less done at once, if there can be less: fewer items, noisy images, then the rest."""
        if self._memory.items == 1 and self.noise_batch > 1:
            self._lay_out_again(groups, self.devices, self.noise_batch // 2)
            return True
        smaller = self._memory.halved()
        self._memory = smaller or self._memory
        return smaller is not None

    def _lay_out_again(
        self, groups: Sequence[MapGroup], devices: tuple[jax.Device, ...], noise_batch: int
    ) -> None:
        """Goes on elsewhere, with no more at once: waves stay those that the memory was shared for.

        Args:
            groups: of lesions, whose sums are kept.
            devices: to compute on.
            noise_batch: noisy images at once and device.
        """
        for group in groups:
            group.rescue()
        before = self._memory
        self._lay_out(replace(self._work, devices=devices, noise_batch=noise_batch))
        self._memory = self._memory.within(before)
