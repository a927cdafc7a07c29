"""Batches of items, and windows kept linearised: fewer of them where memory runs out."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from jaxsal.saliency.items import Items

if TYPE_CHECKING:
    from jaxsal.saliency.programs import Programs
    from jaxsal.types import Triple


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
            relieve: called when memory runs out; returns whether it could free any.

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
