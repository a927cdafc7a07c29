"""A progress bar that shows lesions, voxel gradients and the time left."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from jaxsal.saliency.smoothgrad import Progress as Done


class ProgressBar:
    """Use as a context manager; hand `stage` and `update` to what is computed."""

    def __init__(self) -> None:
        console = Console(stderr=True)
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[counts]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,  # in a log file it would be one stale line
        )
        self._task = self._progress.add_task("starting", total=None, counts="")

    def __enter__(self) -> ProgressBar:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def stage(self, name: str) -> None:
        """Shows what is being done, before it is known how much it is."""
        self._progress.update(self._task, description=name)

    def update(self, done: Done) -> None:
        """Shows how much is done."""
        counts = (
            f"{done.lesions_done}/{done.lesions} lesions, "
            f"{done.gradients_done:,}/{done.gradients:,} voxel gradients"
        )
        self._progress.update(
            self._task, completed=done.gradients_done, total=done.gradients, counts=counts
        )
