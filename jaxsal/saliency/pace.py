"""How long a dispatch lasts, and how many are on their way."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any

import jax

_SECONDS = 0.3  # of a dispatch: progress moves several times a second
_GROWTH = 8  # from one dispatch to the next, at most
_SHORTEST = 1e-9  # seconds; coarse clocks tell none at all
_AHEAD = 1  # dispatches on their way while another one runs


class Pace:
    """Sizes dispatches by the time that earlier ones took, and waits for all but the last of them.

    Args:
        report: called with the number of gradients of a dispatch that is done.
    """

    def __init__(self, report: Callable[[int], None]) -> None:
        self._report = report
        self._running: deque[tuple[Any, int, int, float]] = deque()
        self._batches = 1
        self._last = 0.0

    @property
    def batches(self) -> int:
        """How many batches to do in the next dispatch."""
        return self._batches

    def started(self, token: jax.Array, batches: int, gradients: int) -> None:
        """A dispatch of so many batches and gradients was made; the token is there once it ran."""
        self._running.append((token, batches, gradients, time.perf_counter()))
        self._wait(_AHEAD)

    def finish(self) -> None:
        """Waits for all of them."""
        self._wait(0)

    def _wait(self, most: int) -> None:
        while len(self._running) > most:
            token, batches, gradients, begun = self._running.popleft()
            jax.block_until_ready(token)
            now = time.perf_counter()
            each = max((now - max(begun, self._last)) / batches, _SHORTEST)
            self._last = now
            self._batches = max(1, min(int(_SECONDS / each), _GROWTH * self._batches))
            self._report(gradients)
