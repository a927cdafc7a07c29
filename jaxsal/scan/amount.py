"""What maps will take, how many gradients and how long, and how far their computing is."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from jaxsal.compilation import compiling_seconds
from jaxsal.progress import InParts, OnNote, OnProgress, Progress, by_share
from jaxsal.scan.methods import cost_of
from jaxsal.scan.writing import picture_seconds
from jaxsal.settings import ExplainSettings
from jaxsal.tables import Row
from jaxsal.wording import counted, duration

if TYPE_CHECKING:
    from jaxsal.saliency.maps import Crop
    from jaxsal.scan.portions import Portions
    from jaxsal.scan.unfinished import Unfinished

_FEWEST = 3  # batches, before a pace is believed
_ELSEWHERE = 0.2  # of the time, by which gradients of other lesions may take longer or shorter


@dataclass(frozen=True)
class Amount:
    """What is to be computed.

    Attributes:
        settings: which maps.
        rows: of the lesions, by label.
        gradients: of each lesion, by label; empty where nothing is known yet.
        kept: lesions that an earlier run finished.
    """

    settings: ExplainSettings
    rows: Mapping[int, Row]
    gradients: Mapping[int, int]
    kept: int = 0

    @property
    def total(self) -> int:
        """Gradients of all lesions; 0 if nothing is known yet."""
        return sum(self.gradients.values())

    def __str__(self) -> str:
        if self.kept and not self.rows:
            return f"{counted(self.kept, 'lesion')} finished before, none left to compute"
        kept = f"going on after {counted(self.kept, 'finished lesion')}: " if self.kept else ""
        voxels = counted(sum(row["voxels"] for row in self.rows.values()), "voxel")
        which = f"{counted(len(self.rows), 'lesion')} of {voxels}"
        if self.settings.level == "class":
            which = f"one map of {voxels}"
        cost = cost_of(self.settings)
        if cost is None:
            return f"{kept}{which}"
        most = "at most " if cost.at_most else ""
        images = counted(cost.images, cost.of)
        once = cost.images * sum(cost.gradients(row["voxels"]) for row in self.rows.values())
        if self.settings.level != "class" and self.total > 1.05 * once:
            images = f"{images}, {self.total / once:.1f} windows per {cost.per}"
        gradients = f"{most}{counted(self.total, 'gradient')} ({images})"
        return f"{kept}{gradients} for {which}{self._largest()}"

    def _largest(self) -> str:
        if len(self.rows) < 2:
            return ""
        label = max(self.gradients, key=lambda label: self.gradients[label])
        row, share = self.rows[label], self.gradients[label] / self.total
        return (
            f"; lesion {label} ({row['kind']}, {counted(row['voxels'], 'voxel')}) takes "
            f"{100 * share:.0f} % of them"
        )


@dataclass(frozen=True)
class Duration:
    """Seconds from the beginning to the end, and between which bounds they are likely to be."""

    seconds: float
    low: float
    high: float

    def __str__(self) -> str:
        return (
            f"about {duration(self.seconds)}, likely {duration(self.low)} to {duration(self.high)}"
        )


class Pace:
    """Forecasts from the first batches how long all of them take; nothing is computed for it.

    Batches during which something was compiled do not count.

    Attributes:
        beside: seconds that are taken in all by what is no gradient.

    Args:
        least_seconds: how long the batches that count are to have taken.
        clock: seconds now.
    """

    def __init__(
        self, least_seconds: float = 5.0, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._least, self._clock = least_seconds, clock
        self.beside = 0.0
        self._compiled = compiling_seconds()
        self._began = clock()
        self._last = self._began, 0, len(self._compiled)
        self._seconds: list[float] = []
        self._gradients: list[int] = []

    def __call__(self, progress: Progress) -> Duration | None:
        """How long all of it takes; None if that is not known yet."""
        now, done = self._clock(), progress.gradients_done
        before, done_before, compiled_before = self._last
        self._last = now, done, len(self._compiled)
        if len(self._compiled) == compiled_before and done > done_before:
            self._seconds.append(now - before)
            self._gradients.append(done - done_before)
        left, elapsed = progress.gradients - done, now - self._began
        if not left:
            return Duration(*3 * [elapsed + self.beside])
        if len(self._seconds) < _FEWEST or sum(self._seconds) < self._least:
            return None
        rest, error = self._rest(left)
        return Duration(elapsed + rest, elapsed + rest - error, elapsed + rest + error)

    def seconds_of(self, gradients: int) -> float | None:
        """Seconds of so many gradients, by the batches that count; None without any."""
        if not self._gradients:
            return None
        return gradients * sum(self._seconds) / sum(self._gradients)

    def _rest(self, left: int) -> tuple[float, float]:
        """Seconds of so many gradients, and two standard errors of them (of a ratio)."""
        seconds, gradients = np.array(self._seconds), np.array(self._gradients)
        rate = seconds.sum() / gradients.sum()
        count = len(seconds)
        squares = float(((seconds - rate * gradients) ** 2).sum()) * count / (count - 1)
        spread = 2 * np.sqrt(squares) / seconds.sum()
        rest = float(rate * left) + self.beside
        return rest, rest * min(float(np.hypot(spread, _ELSEWHERE)), 0.9)


class Known(Exception):  # noqa: N818
    """Raised once it is known how long all of it takes."""


class Following:
    """Follows the progress of all portions; says how long it takes when that is known."""

    def __init__(
        self, on_progress: OnProgress | None, on_note: OnNote, *, once: bool = False
    ) -> None:
        self.on_note = on_note
        self.duration: Duration | None = None
        self._on_progress, self._once = on_progress, once
        self.pace = Pace()

    def __call__(self, progress: Progress) -> None:
        if self._on_progress is not None:
            self._on_progress(progress)
        if self.duration is not None:
            return
        self.duration = self.pace(progress)
        if self.duration is not None and self._once:
            raise Known
        if self.duration is not None and progress.gradients_done < progress.gradients:
            self.on_note(f"forecast: {self.duration} in all")


def kept_rows(portions: Portions, unfinished: Unfinished) -> dict[int, list[Row]]:
    """The rows of the portions that are finished, by their numbers."""
    rows = {
        number: lesions.kept_rows(unfinished.rows(number, lesions.files))
        for number, lesions in enumerate(portions.results)
    }
    return {number: kept for number, kept in rows.items() if kept is not None}


def amount_of(portions: Portions, kept: Mapping[int, list[Row]]) -> Amount:
    """What is left to be computed."""
    todo = [lesions for number, lesions in enumerate(portions.results) if number not in kept]
    gradients = {label: n for lesions in todo for label, n in portions.gradients(lesions).items()}
    rows = {
        label: {**each.explained.row, "voxels": each.explained.voxels}  # that are differentiated
        for lesions in todo
        for label, each in lesions.items()
    }
    return Amount(portions.settings, rows, gradients, sum(map(len, kept.values())))


def compute_portions(
    portions: Portions,
    kept: Mapping[int, list[Row]],
    amount: Amount,
    following: Following,
    finish: Callable[[int, Iterator[tuple[int, Crop]]], object],
) -> None:
    """Computes the portions that are not kept, and has each finished with its maps by label."""
    if portions.settings.pictures and amount.rows:
        following.pace.beside = len(amount.rows) * picture_seconds(portions)
    progress = InParts(len(amount.rows), amount.total, following)
    for number, lesions in enumerate(portions.results):
        if number not in kept:
            progress.begin()
            finish(number, portions.maps(lesions, by_share(len(lesions), progress)))
