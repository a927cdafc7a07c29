"""Follows a schedule on the devices, at some of the noisy images at a time.

Programs are started one after the other. They are waited for only to tell how far the work is, a
few times a second, and at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from jaxsal.saliency.books import PullBack
from jaxsal.saliency.pace import Pace
from jaxsal.saliency.schedule import Linearise, Merge

if TYPE_CHECKING:
    from jaxsal.saliency.accumulation import MapGroup
    from jaxsal.saliency.books import Edges
    from jaxsal.saliency.layout import Layout
    from jaxsal.saliency.schedule import Limits, Schedule, Step


class Portions:
    """Takes the gradients of all items of some lesions into their maxima.

    Args:
        layout: of the engine.
        limits: how much goes at once.
        schedule: of a noisy image.
        groups: of lesions, by the numbers that the schedule gives them.
        report: called with the number of gradients that were computed.
    """

    def __init__(
        self,
        layout: Layout,
        limits: Limits,
        schedule: Schedule,
        groups: Sequence[MapGroup],
        report: Callable[[int], None],
    ) -> None:
        self._layout, self._limits, self._groups = layout, limits, groups
        self._programs = layout.programs
        self._steps = [self._sent(step) for step in schedule.steps]
        self._written = schedule.books
        self._books: dict[Edges, tuple[int, Any]] = {}  # on the devices: number, and the book
        self._pace = Pace(report)
        self._slots: Any = None
        samples = self.samples
        for group in groups:
            group.begin(self._programs, samples)
        shape = (*layout.geometry.frame, layout.work.channels)
        self._frames = self._programs.zeros(limits.frames + 1, samples, *shape)

    @property
    def samples(self) -> int:
        """Noisy images at once, on all devices."""
        return self._layout.noise_batch * self._programs.sample_devices

    def run(self, first: int, count: int) -> None:
        """Takes the gradients at noisy images ``first`` to ``first + count - 1``."""
        images = self._images(first, count)
        for step in self._steps:
            if isinstance(step, Linearise):
                self._linearise(images, step)
            elif isinstance(step, PullBack):
                self._pull_back(step, count)
            else:
                self._frames = self._groups[step.group].take(self._frames, step.frames)
        self._pace.finish()
        jax.block_until_ready(self._frames)

    def _images(self, first: int, count: int) -> jax.Array:
        """Noisy images (N, X, Y, Z, C) on the padded grid, the last one again where N is more."""
        plan, noisy = self._layout.windows.plan, self._layout.work.noisy
        numbers = first + np.minimum(np.arange(self.samples, dtype=np.int32), count - 1)
        return self._programs.noisy(
            noisy.make, *self._image, noisy.of_each(numbers), plan.before, plan.padded
        )

    def _linearise(self, images: jax.Array, step: Linearise) -> None:
        programs, size = self._programs, self._layout.windows.plan.size
        windows = programs.cut(images, step.windows, size)
        if self._slots is None and self._limits.mixes:
            self._slots = programs.slots(self._parameters, windows, self._limits.slots)
        slots = self._slots if self._limits.mixes else None
        self._slots = None  # a whole one is not kept beside the next
        self._slots = programs.linearise(self._parameters, slots, windows, step.places, step.counts)

    def _pull_back(self, step: PullBack, samples: int) -> None:
        """In several dispatches if one would last too long."""
        batch, book = self._limits.batch, self._book(step)
        batches = -(-int(step.counts.max()) // batch)
        done = 0
        while done < batches:
            stop = min(done + self._pace.batches, batches)
            inside = np.clip(step.counts - done * batch, 0, (stop - done) * batch)
            bounds = np.full((len(inside), 2), step.first + done, np.int32)
            bounds[:, 1] += -(-inside // batch)
            self._frames, token = self._programs.pull_back(
                step.edges,
                self._prepared,
                self._slots,
                self._frames,
                book,
                bounds,
            )
            self._pace.started(token, stop - done, samples * int(inside.sum()))
            done = stop

    def _book(self, step: PullBack) -> Any:
        """The step's book on the devices, in place of the one before it with these edges."""
        if self._books.get(step.edges, (-1, None))[0] != step.book:
            self._books.pop(step.edges, None)  # is not kept beside the next
            book = self._programs.share(self._written[step.edges][step.book])
            self._books[step.edges] = step.book, book
        return self._books[step.edges][1]

    def _sent(self, step: Step) -> Step:
        """A step whose arrays are on the devices."""
        share, starts = self._programs.share, self._layout.windows.plan.starts
        if isinstance(step, Linearise):
            of_windows = starts[step.windows].astype(np.int32)
            return Linearise(share(of_windows), share(step.places), share(step.counts))
        return Merge(step.group, share(step.frames)) if isinstance(step, Merge) else step

    @cached_property
    def _image(self) -> tuple[jax.Array, Any]:
        """The image, and what all noisy ones share, on every device, where they are made."""
        noisy = self._layout.work.noisy
        return self._programs.replicate((noisy.image, noisy.common))

    @cached_property
    def _parameters(self) -> Any:
        return self._programs.replicate(self._layout.work.field.parameters)

    @cached_property
    def _prepared(self) -> Any:
        return self._programs.prepare(self._parameters)
