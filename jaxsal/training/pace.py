"""How fast training goes, and whether the device waits for data."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor

import jax


class Pace:
    """Follows the device from the side: when each step begins and ends.

    The device waits for data from when it is done with a step until it is given the next one.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, "pace")
        self._running: list[Future[float]] = []
        self._all = [0, 0.0]  # steps and seconds since the beginning
        self._steps, self._seconds, self._waited = 0, 0.0, 0.0
        self.rest()

    def begin_anew(self, *, counted: bool = True) -> None:
        """Begins to measure anew; what was measured counts in the overall mean, or does not."""
        if counted:
            self._all = [self._all[0] + self._steps, self._all[1] + self._seconds]
        self._steps, self._seconds, self._waited = 0, 0.0, 0.0

    def rest(self) -> None:
        """Whatever the device now waits for is not data: the next step is the first in a row."""
        self._running.clear()
        self._since: float | None = None

    def before(self) -> None:
        """To be called before a step is handed to the device; waits if it is two behind."""
        if len(self._running) == 2:
            self._running.pop(0).result()
        now = time.perf_counter()
        if self._since is None:
            self._since = now
        elif self._running and self._running[-1].done():
            self._waited += max(now - self._running[-1].result(), 0.0)

    def after(self, result: jax.Array) -> None:
        """To be called with a result of the step, when the device has been given the step."""
        self._steps += 1
        self._running.append(self._pool.submit(_end_of, result))

    def pause(self) -> None:
        """Waits until the device is done, and counts the time since the last rest."""
        if self._running and self._since is not None:
            self._seconds += self._running[-1].result() - self._since
        self.rest()

    def measured(self, batch: int) -> dict[str, float]:
        """Patches per second, and the share of the time that the device waited for data.

        Args:
            batch: number of patches per step.

        Returns:
            By the columns of the table; nothing if nothing was measured.
        """
        if self._seconds <= 0:
            return {}
        return {
            "patches_per_second": self._steps * batch / self._seconds,
            "waited_share": min(self._waited / self._seconds, 1.0),
        }

    def overall(self, batch: int) -> float | None:
        """Patches per second of all that was counted."""
        steps, seconds = self._all
        return steps * batch / seconds if seconds > 0 else None

    def close(self) -> None:
        """Ends the thread."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _end_of(result: jax.Array) -> float:
    try:
        result.block_until_ready()
    except Exception:  # whoever asks for the result is told
        return time.perf_counter()
    return time.perf_counter()
