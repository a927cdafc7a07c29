"""Computes the portions of a scan's maps that are not kept, and follows how far it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from jaxsal.progress import InParts, OnNote, OnProgress, Progress
from jaxsal.scan.amount import Amount, Duration, Pace
from jaxsal.scan.pictures import picture_seconds

if TYPE_CHECKING:
    from jaxsal.saliency.maps import Crop
    from jaxsal.scan.portions import Portions
    from jaxsal.scan.unfinished import Unfinished
    from jaxsal.tables import Row


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
    rows = {label: each.explained.row for lesions in todo for label, each in lesions.items()}
    return Amount(portions.settings, rows, gradients, sum(map(len, kept.values())))


def compute_portions(
    portions: Portions,
    kept: Mapping[int, list[Row]],
    amount: Amount,
    following: Following,
    finish: Callable[[int, Iterator[tuple[int, Crop]]], None],
) -> None:
    """Computes the portions that are not kept, and has each finished with its maps by label."""
    if portions.settings.pictures and amount.rows:
        following.pace.beside = len(amount.rows) * picture_seconds(portions)
    progress = InParts(len(amount.rows), amount.total, following)
    for number, lesions in enumerate(portions.results):
        if number not in kept:
            progress.begin()
            finish(number, portions.maps(lesions, progress))
