"""Windows through a network in batches of one size, so that one program serves them all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

import jax
import numpy as np

from jaxsal.errors import InputError, warn

T = TypeVar("T")


def in_batches(
    passes: Iterator[T], batch: int, compute: Callable[[Sequence[T]], jax.Array]
) -> Iterator[tuple[list[T], np.ndarray]]:
    """Passes, in their order, and what is computed of them, (B, ...).

    The last batch is filled up with copies. From where the memory runs out on, batches are halved.

    Args:
        passes: made when they are needed.
        batch: how many at once.
        compute: of so many passes at once; examples do not affect each other.

    Raises:
        InputError: there is no memory for a single pass.
    """
    waiting: list[T] = []
    while True:
        waiting += islice(passes, max(batch - len(waiting), 0))
        if not waiting:
            return
        part = waiting[:batch]
        try:
            found = np.asarray(compute(part + [part[-1]] * (batch - len(part))))
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            batch = _smaller(batch, error)
            continue
        yield part, found[: len(part)]
        waiting = waiting[batch:]


def _smaller(batch: int, error: Exception) -> int:
    """Half of a batch for which there is no memory."""
    if batch == 1:
        raise InputError(
            "the device has no memory for a single window: give a smaller one (--roi), or another "
            "device (--device)"
        ) from error
    warn(
        f"the device has no memory for {batch} windows at a time: going on with {batch // 2}, "
        "which gives the same scores; a smaller --batch, or --memory, avoids this",
    )
    return batch // 2
