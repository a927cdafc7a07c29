"""The mean over noisy images (1/N Σ_n of Eqs. 1-3) of one lesion's map, while it is computed.

On the device, in a frame of the image. Gradients at the current noisy images are combined by
signed maximum; the maxima are then added up in the order of the images, so that the result does
not depend on how many were computed at once. Where the standard error is wanted, squares of
deviations are added up, too.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from jaxsal.box import Box
from jaxsal.saliency.aggregate import signed_maximum, standard_error, welford_add
from jaxsal.saliency.geometry import frame_size
from jaxsal.settings import FEWEST_SAMPLES

if TYPE_CHECKING:
    from jaxsal.saliency.programs import Programs


class LesionMap:
    """The map of a lesion.

    Args:
        box: of the image, holds the boxes of all gradients.
        channels: C.
        squares: whether to add up squares of deviations.
    """

    def __init__(self, box: Box, channels: int, *, squares: bool) -> None:
        self.low, self._channels = box.start, channels
        self.size = frame_size(box.shape)
        self.samples = 0
        self.is_complete = False  # before all samples, by the tolerance
        self._maxima: jax.Array | None = None
        self._total: jax.Array | None = None
        self._squares: jax.Array | None = None
        self._wants_squares = squares

    def take(
        self,
        programs: Programs,
        gradients: jax.Array,
        corners: np.ndarray,
        first: int,
        stop: int,
    ) -> None:
        """Takes the signed maximum with gradients ``first`` to ``stop - 1`` of a batch.

        Args:
            programs: of the engine.
            gradients: (B, N, *box, C).
            corners: (B, 3) positions in the image at which their boxes begin.
            first: of this lesion.
            stop: one past the last.
        """
        if self._maxima is None:
            self._maxima = programs.maxima(self.size, gradients.shape[1], self._channels)
        self._maxima = programs.take_maxima(
            self._maxima, gradients, corners - self.low, first, stop
        )

    def finish_samples(self, count: int, device: jax.Device, tolerance: float | None) -> None:
        """Adds the maxima at the first ``count`` of the current images to the sums.

        Args:
            count: number of images that are not repetitions.
            device: to keep the sums on.
            tolerance: relative standard error at which no more images are added; or None.
        """
        assert self._maxima is not None  # every lesion has an item
        maxima = jax.device_put(self._maxima, device)
        self._maxima = None
        if self._total is None:
            zeros = partial(jnp.zeros, maxima.shape[2:], jnp.float32, device=device)
            self._total = zeros()
            self._squares = zeros() if self._wants_squares else None
        # One by one with a tolerance, so that the result does not depend on how many come at once.
        for first in range(count) if tolerance is not None else [0]:
            stop = count if tolerance is None else first + 1
            self._total, self._squares = _add_samples(
                self._total, self._squares, maxima, first, stop, self.samples
            )
            self.samples += stop - first
            if tolerance is not None and self.relative_error() <= tolerance:
                self.is_complete = True
                return

    def relative_error(self) -> float:
        """Largest standard error of the map, relative to its peak; infinite while too few."""
        if self.samples < FEWEST_SAMPLES or self._squares is None:
            return np.inf
        return float(_relative_error(self._total, self._squares, self.samples))

    def mean(self, box: Box, divisor: int) -> np.ndarray:
        """The map (x, y, z, C) on a box of the image: the mean over samples / divisor."""
        assert self._total is not None
        total = box.seen_from(self.low).cut(np.asarray(self._total))
        return total / np.float32(self.samples * divisor)

    def standard_error(self, box: Box, divisor: int) -> np.ndarray | None:
        """The standard error of `mean`; None if squares were not added up or for one sample."""
        if self._squares is None or self.samples < 2:
            return None
        error = np.asarray(standard_error(self._squares, self.samples))
        return box.seen_from(self.low).cut(error) / np.float32(divisor)


@partial(jax.jit, donate_argnums=(0, 1))
def _add_samples(
    total: jax.Array,
    squares: jax.Array | None,
    maxima: jax.Array,
    first: int,
    stop: int,
    before: int,
) -> tuple[jax.Array, jax.Array | None]:
    """Adds samples ``first`` to ``stop - 1`` of maxima (D, N, X, Y, Z, C) to the ``before`` ones.

    The maxima of the D devices are united first.
    """
    united = maxima[0]
    for other in maxima[1:]:
        united = signed_maximum(united, other)

    def add(sample: jax.Array, sums: tuple[jax.Array, jax.Array | None]) -> tuple:
        total, squares = sums
        count = before + sample - first
        value = united[sample]
        if squares is None:
            return total + value, None
        return welford_add(total, squares, value, count)

    return jax.lax.fori_loop(first, stop, add, (total, squares))


@jax.jit
def _relative_error(total: jax.Array, squares: jax.Array, samples: int) -> jax.Array:
    peak = jnp.abs(total).max() / samples
    error = standard_error(squares, samples).max()
    return jnp.where(peak > 0, error / peak, 0)
