"""The mean over noisy images (1/N Σ_n of Eqs. 1-3) of lesions' maps, while they are computed.

On the devices, in a frame of the image each. Gradients at the current noisy images are combined by
signed maximum; the maxima are then added up in the order of the images, so that the result does
not depend on how many were computed at once. Where the standard error is wanted, squares of
deviations are added up, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import jax
import numpy as np

from jaxsal.devices import computes
from jaxsal.saliency.memory_plan import places

if TYPE_CHECKING:
    from jaxsal.box import Box
    from jaxsal.saliency.programs import Programs
    from jaxsal.saliency.schedule import FrameMerge
    from jaxsal.types import Triple


Added: TypeAlias = tuple[Any, Any, np.ndarray]  # maxima, sums, and the images in these


@dataclass(frozen=True)
class LesionMap:
    """The sums of a lesion's map.

    Attributes:
        low: position in the image at which it begins.
        total: (X, Y, Z, C) sum over the noisy images.
        squares: of deviations from the mean, summed up; None if they were not.
        samples: how many images.
    """

    low: Triple
    total: np.ndarray
    squares: np.ndarray | None
    samples: int

    def mean(self, box: Box, divisor: int) -> np.ndarray:
        """The map (x, y, z, C) on a box of the image: the mean over samples / divisor."""
        return box.seen_from(self.low).cut(self.total) / np.float32(self.samples * divisor)

    def standard_error(self, box: Box, divisor: int) -> np.ndarray | None:
        """The standard error of `mean`; None if squares were not added up or for one sample."""
        if self.squares is None or self.samples < 2:
            return None
        error = np.sqrt(np.maximum(self.squares, 0) / (self.samples - 1) / self.samples)
        return box.seen_from(self.low).cut(error) / np.float32(divisor)


class MapGroup:
    """The maps of lesions that have the same size.

    Args:
        lesions: their numbers.
        size: of each map.
        channels: C.
        squares: whether to add up squares of deviations.

    Attributes:
        lesions: the same.
        samples: (L,) images added to each lesion so far; negative for those that need no more.
    """

    def __init__(
        self, lesions: Sequence[int], size: Triple, channels: int, *, squares: bool
    ) -> None:
        self.lesions = tuple(lesions)
        self._shape = (*size, channels)
        self._places = places(len(lesions))
        self.samples = np.zeros(self._places, np.int32)
        zeros = np.zeros((self._places, *self._shape), np.float32)
        self._sums: Any = (zeros, zeros if squares else None)  # total and squares
        self._programs: Programs | None = None

    @property
    def active(self) -> dict[int, int]:
        """The lesions that need more images, and their places in `samples`."""
        return {lesion: i for i, lesion in enumerate(self.lesions) if self.samples[i] >= 0}

    def begin(self, programs: Programs, samples: int) -> None:
        """Makes room for maxima at so many images; called again, it forgets maxima."""
        if programs is not self._programs:
            self._sums = programs.replicate(self._sums)
        self._programs = programs
        self._maxima = programs.zeros(self._places, samples, *self._shape)

    def take(self, frames: jax.Array, merge: FrameMerge) -> jax.Array:
        """Takes frames into the maxima; returns the frames, as those given are used up."""
        assert self._programs is not None  # begun
        self._maxima, frames = self._programs.merge(self._maxima, frames, merge)
        return frames

    def added(self, count: int, tolerance: float | None) -> Added:
        """The sums with the maxima at the first ``count`` of the current images, once they exist.

        Nothing changes until they are handed to `keep`, but the maxima are used up.

        Args:
            count: number of images that are not repetitions.
            tolerance: relative standard error at which no more images are added; or None.

        Raises:
            JaxRuntimeError: the device fails.
        """
        assert self._programs is not None  # begun
        maxima, sums, samples = jax.block_until_ready(
            self._programs.finish(
                self._maxima, self._sums, len(self.lesions), count, self.samples, tolerance
            )
        )
        return maxima, sums, self.samples + count if tolerance is None else np.asarray(samples)

    def keep(self, added: Added) -> None:
        """Takes sums from `added`, and maxima that are zero again."""
        self._maxima, self._sums, self.samples = added

    def rescue(self) -> None:
        """Brings the sums to the host, from a device that still computes."""
        self._sums = jax.tree.map(_from_any_device, self._sums)
        self._programs = None

    def maps(self, lows: Sequence[Triple]) -> dict[int, LesionMap]:
        """The lesions' maps by number, which begin at these positions (of all lesions)."""
        self.rescue()
        total, squares = self._sums
        return {
            lesion: LesionMap(
                lows[lesion],
                total[place],
                None if squares is None else squares[place],
                abs(int(self.samples[place])),
            )
            for place, lesion in enumerate(self.lesions)
        }


def _from_any_device(values: jax.Array | np.ndarray) -> np.ndarray:
    """What is the same on all devices, from one that computes.

    Raises:
        RuntimeError: none does.
    """
    if isinstance(values, np.ndarray):
        return values
    for shard in values.addressable_shards:
        if computes(shard.device):
            return np.asarray(shard.data)
    raise RuntimeError("no device computes any more")
