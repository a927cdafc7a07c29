"""How far a computation is, and what shows it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from threading import Lock
from typing import Literal, Protocol


@dataclass(frozen=True)
class Progress:
    """How far a computation is.

    Attributes:
        lesions_done: lesions whose map is complete.
        lesions: how many lesions there are.
        gradients_done: gradients computed: for SmoothGrad one per voxel (or summed group of
            voxels), window that reaches it and noise sample; for Grad-CAM++ one per lesion and
            window, times the probes if there are any, or one per unit vector of a window's layer;
            for occlusion forward passes, one per window and what is hidden of it.
        gradients: how many there are, at most.
        unit: what is counted, where it is no gradient.
    """

    lesions_done: int
    lesions: int
    gradients_done: int
    gradients: int
    unit: str = "gradient"

    @property
    def is_finishing(self) -> bool:
        """Whether all gradients are there, but not all maps, which are put together and written."""
        return 0 < self.gradients <= self.gradients_done and self.lesions_done < self.lesions


OnProgress = Callable[[Progress], None]
OnCount = Callable[[int], None]  # called with how many are done
OnPart = Callable[[int, int], None]  # called with how many are done, and of how many
OnStage = Callable[[str], None]  # called with what is being done
OnNote = Callable[[str], None]  # called with a sentence
Shown = OnProgress | Literal["auto"] | None  # "auto": a bar on a terminal and in notebooks


class Tracker:
    """Counts what is done and reports it; several threads may share it.

    Args:
        on_progress: called with the progress; None: nothing is reported.
        unit: what is counted.
    """

    def __init__(self, on_progress: OnProgress | None = None, unit: str = "gradient") -> None:
        self._report = on_progress
        self._now = Progress(0, 0, 0, 0, unit)
        self._lock = Lock()

    def expect(self, *, lesions: int = 0, gradients: int = 0) -> None:
        """So many more are to be done."""
        with self._lock:
            now = self._now
            self._now = replace(
                now, lesions=now.lesions + lesions, gradients=now.gradients + gradients
            )

    def advance(self, *, lesions: int = 0, gradients: int = 0) -> None:
        """So many more are done."""
        with self._lock:
            now = self._now
            self._now = replace(
                now,
                lesions_done=now.lesions_done + lesions,
                gradients_done=now.gradients_done + gradients,
            )
            if self._report is not None:
                self._report(self._now)


class InParts:
    """Makes the progress of parts that are computed one after the other that of the whole.

    Args:
        lesions: of all parts.
        gradients: of all parts; 0 if each part's are known only when it begins.
        on_progress: called with the progress of the whole.
    """

    def __init__(self, lesions: int, gradients: int, on_progress: OnProgress) -> None:
        self._lesions, self._gradients, self._report = lesions, gradients, on_progress
        self._before = self._now = Progress(0, lesions, 0, gradients)

    def begin(self) -> None:
        """The next part begins."""
        self._before = self._now

    def __call__(self, part: Progress) -> None:
        done = self._before.gradients_done + part.gradients_done
        self._now = Progress(
            self._before.lesions_done + part.lesions_done,
            self._lesions,
            done,
            max(self._gradients, done - part.gradients_done + part.gradients),
            part.unit,
        )
        self._report(self._now)


def by_share(lesions: int, on_progress: OnProgress) -> OnProgress:
    """Counts lesions that are completed together by the share of their gradients that is done.

    All of them count only once they are complete: after the last gradient, maps are put together.
    """

    def advance(part: Progress) -> None:
        share = part.gradients_done / max(part.gradients, 1)
        done = min(int(share * lesions), max(lesions - 1, 0))
        if 0 < part.lesions <= part.lesions_done:
            done = lesions
        on_progress(replace(part, lesions_done=done, lesions=lesions))

    return advance


class Monitor(Protocol):
    """Shows how far a job is."""

    def stage(self, name: str) -> None:
        """Shows what is being done."""
        ...

    def say(self, line: str) -> None:
        """Adds a line that stays."""
        ...

    def count(self, done: int, total: int, things: str) -> None:
        """Shows how many things are done."""
        ...

    def detail(self, text: str) -> None:
        """Shows what changes all the time."""
        ...


class Silence:
    """A monitor that shows nothing."""

    def stage(self, name: str) -> None: ...

    def say(self, line: str) -> None: ...

    def count(self, done: int, total: int, things: str) -> None: ...

    def detail(self, text: str) -> None: ...
