"""How far a computation is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """How far a computation is.

    Attributes:
        lesions_done: lesions whose map is complete.
        lesions: how many lesions there are.
        gradients_done: gradients computed: for SmoothGrad one per voxel (or summed group of
            voxels), window that reaches it and noise sample; for Grad-CAM++ one per lesion and
            window.
        gradients: how many there are.
    """

    lesions_done: int
    lesions: int
    gradients_done: int
    gradients: int


OnProgress = Callable[[Progress], None]


class Tracker:
    """Counts what is done, and tells.

    Args:
        on_progress: whom to tell; nobody if None.

    Attributes:
        lesions: how many there are.
        gradients: how many there are.
    """

    def __init__(self, on_progress: OnProgress | None) -> None:
        self._tell = on_progress
        self.lesions = self._lesions_done = self._done = self.gradients = 0

    def advance(self, gradients: int) -> None:
        """So many more gradients are computed."""
        self._done += gradients
        self._report()

    def finish(self, lesions: int) -> None:
        """So many more lesions are complete."""
        self._lesions_done += lesions
        self._report()

    def _report(self) -> None:
        if self._tell is not None:
            self._tell(Progress(self._lesions_done, self.lesions, self._done, self.gradients))
