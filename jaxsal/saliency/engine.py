"""What every computation of maps shares: its inputs, its batch sizes and its progress."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np

from jaxsal.devices import current_device
from jaxsal.errors import InputError
from jaxsal.field import LogitField, WindowPlan, pad_image
from jaxsal.saliency.memory import GIB, array_bytes, working_bytes
from jaxsal.saliency.vjp import Linearisations, linearise, pull_back
from jaxsal.types import Triple

MAPS_SHARE = 0.3  # of the memory budget, for the maps of the lesions computed together
SLOTS = 4  # lesions whose maxima are on the device at once
# Larger batches gain nothing: on CPU by measurement, elsewhere as the device is full by then.
_LARGEST_BATCH = {"cpu": 2}
_LARGEST_BATCH_ELSEWHERE = 32
_LINEARISATIONS_SHARE = 0.4  # of the rest, for the windows kept linearised


class NoisyImages(Protocol):
    """Where the noisy images come from."""

    @property
    def count(self) -> int:
        """N, how many there are."""
        ...

    def __call__(self, first: int, count: int) -> jax.Array:
        """(N, X, Y, Z, C): ``count`` noisy images, beginning with number ``first``."""
        ...


@dataclass(frozen=True)
class Work:
    """What to differentiate and in which portions.

    Attributes:
        field: the logits as a function of the image.
        target: output channel.
        noisy: the noisy images.
        shape: the image's grid (X, Y, Z).
        channels: C.
        budget: bytes to stay within.
        voxel_batch: cotangents per pull-back; None: as many as pay and fit.
        noise_batch: noise samples at once.
        report: told, after each pull-back, for how many voxels (or lesions) × samples it was.
    """

    field: LogitField
    target: int
    noisy: NoisyImages
    shape: Triple
    channels: int
    budget: int
    voxel_batch: int | None
    noise_batch: int
    report: Callable[[int], None]

    def sample_batches(self) -> Iterator[tuple[int, int]]:
        """First noise sample and number of samples of each portion."""
        for first in range(0, self.noisy.count, self.noise_batch):
            yield first, min(self.noise_batch, self.noisy.count - first)

    def linearisations(self, plan: WindowPlan, first: int, count: int, keep: int) -> Linearisations:
        """The pull-backs at the plan's windows of some noisy images."""
        images = jax.vmap(lambda image: pad_image(image, plan))(self.noisy(first, count))
        return Linearisations(
            self.field.function, self.field.parameters, self.target, images, plan.size, keep
        )


def portions(work: Work, plan: WindowPlan, slots: int) -> tuple[Batch, int]:
    """Batch size, and number of windows to keep linearised, that fit the memory budget.

    Args:
        work: what is to be done.
        plan: the windows it is to be done on.
        slots: how many maps on the plan's frame are on the device besides the batch's.

    Raises:
        InputError: the budget does not suffice for a single voxel.
    """
    samples = work.noise_batch
    function, parameters = work.field.function, work.field.parameters
    windows = jax.ShapeDtypeStruct((samples, *plan.size, work.channels), jnp.float32)
    cotangent = jax.ShapeDtypeStruct((1, *plan.size), jnp.float32)

    def linear(parameters: object, windows: jax.Array) -> object:
        return linearise(function, parameters, windows, work.target)

    pull = jax.eval_shape(linear, parameters, windows)
    frame = 4 * samples * work.channels * int(np.prod(plan.frame))
    each = frame + working_bytes(lambda p, c: pull_back(p, c, samples), pull, cotangent)
    images = 8 * samples * work.channels * int(np.prod(plan.padded))
    fixed = images + slots * frame + working_bytes(linear, parameters, windows)
    residuals = array_bytes(pull)
    available = int(work.budget * (1 - MAPS_SHARE))
    least = (fixed + residuals + each) / (1 - MAPS_SHARE)
    if work.budget < least:
        raise InputError(
            f"a memory budget of {work.budget / GIB:.3g} GiB is too small for one voxel at a time "
            f"on windows of {plan.size}: it takes about {least / GIB:.3g} GiB; allow more memory"
        )
    most_windows = int((plan.weights > 0).sum(axis=1).max())
    affordable = int(_LINEARISATIONS_SHARE * available // residuals)
    keep = min(max(affordable, 1), 2 * most_windows)
    largest = _LARGEST_BATCH.get(current_device().platform, _LARGEST_BATCH_ELSEWHERE)
    fitting = max(int((available - fixed - keep * residuals) // each), 1)
    return Batch(work.voxel_batch or min(fitting, largest)), keep


class Batch:
    """How many items go through a computation at once; halved when memory runs out.

    Args:
        size: number of items.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._warned = False

    def run(
        self, items: np.ndarray, compute: Callable[[np.ndarray], jax.Array]
    ) -> Iterator[tuple[np.ndarray, int, jax.Array]]:
        """Puts all items through a computation, in batches of one size.

        Args:
            items: (I, …).
            compute: from a batch of items to results; the last batch is filled up by repeating
                its last item.

        Yields:
            The batch, how many of its items are not repetitions, and the results.
        """
        first = 0
        while first < len(items):
            batch = items[first : first + self.size]
            count = len(batch)
            batch = np.concatenate([batch, np.repeat(batch[-1:], self.size - count, axis=0)])
            try:
                results = jax.block_until_ready(compute(batch))
            except jax.errors.JaxRuntimeError as error:
                if "RESOURCE_EXHAUSTED" not in str(error) or self.size == 1:
                    raise
                self._halve()
                continue
            yield batch, count, results
            first += count

    def _halve(self) -> None:
        self.size //= 2
        if not self._warned:
            warnings.warn(
                "the device ran out of memory: going on in smaller batches, which give the same "
                "results; a smaller memory budget avoids this",
                stacklevel=3,
            )
        self._warned = True
