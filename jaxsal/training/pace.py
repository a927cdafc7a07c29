"""How fast training goes, and whether the device waits for data."""

from __future__ import annotations

import time
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import suppress

import jax


class Pace:
    """Follows the device from the side: when each step begins and ends.

    The device waits for data from when it is done with a step until it is given the next one.

    Args:
        batch: number of patches per step.
        pool: of the thread that waits for the device.
    """

    def __init__(self, batch: int, pool: Executor | None = None) -> None:
        self._batch, self._pool = batch, pool or ThreadPoolExecutor(1, "pace")
        self._ends: list[Future[float]] = []
        self._since: float | None = None
        self._all = [0, 0.0]  # steps and seconds of all rows
        self.discard()

    def before(self) -> None:
        """To be called before a step is handed to the device; waits if it is two behind."""
        if len(self._ends) == 2:
            self._ends.pop(0).result()
        now = time.perf_counter()
        if self._since is None:
            self._since = now
        elif self._ends and self._ends[-1].done():
            self._waited += max(now - self._ends[-1].result(), 0.0)

    def after(self, result: jax.Array) -> None:
        """To be called with a result of the step, when the device has been given the step."""
        self._steps += 1
        self._ends.append(self._pool.submit(_end_of, result))

    def pause(self) -> None:
        """Waits until the device is done; what it waits for then is not data."""
        if self._ends and self._since is not None:
            self._seconds += self._ends[-1].result() - self._since
        self._ends, self._since = [], None

    def discard(self) -> None:
        """Begins to measure anew: what was measured since the last row counts nowhere."""
        self._steps, self._seconds, self._waited = 0, 0.0, 0.0

    def row(self) -> dict[str, float]:
        """Columns of the table since the last row; none if nothing was measured."""
        steps, seconds, waited = self._steps, self._seconds, self._waited
        self._all = [self._all[0] + steps, self._all[1] + seconds]
        self.discard()
        if seconds <= 0:
            return {}
        return {
            "patches_per_second": steps * self._batch / seconds,
            "waited_share": min(waited / seconds, 1.0),
        }

    @property
    def overall(self) -> float | None:
        """Patches per second over all rows; None without any step."""
        steps, seconds = self._all
        return steps * self._batch / seconds if seconds > 0 else None

    def close(self) -> None:
        """Ends the thread."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _end_of(result: jax.Array) -> float:
    with suppress(Exception):  # raised where the result is asked for
        result.block_until_ready()
    return time.perf_counter()
