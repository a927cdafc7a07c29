"""How far a computation is, shown: a bar on a terminal and in notebooks, and nothing elsewhere.

Functions called from Python show it by default; a bar inside another one is not shown.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from jaxsal.progress import OnNote, OnProgress, Progress, Shown
from jaxsal.wording import counted, pace

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import ProgressColumn, Task

VARIABLE = "JAXSAL_PROGRESS"  # "off": nothing is shown unless asked for
_BAR, _WIDE = 20, 100  # columns of a bar, and of a terminal with room for it
_PERIOD = 600.0  # seconds over which the time left is estimated
_DELAY = 2.0  # seconds before a bar appears: what is soon done needs none
_claim = threading.Lock()  # held by whoever shows something


@contextmanager
def claimed() -> Iterator[bool]:
    """Whether nobody else shows something; nobody else does within the block."""
    own = _claim.acquire(blocking=False)
    try:
        yield own
    finally:
        if own:
            _claim.release()


def is_watched() -> bool:
    """Whether somebody looks at standard error: a terminal, or a notebook."""
    if os.environ.get(VARIABLE, "").lower() == "off":
        return False
    return sys.stderr.isatty() or _in_notebook()


def _in_notebook() -> bool:
    if "IPython" not in sys.modules:
        return False
    from rich.console import Console

    return Console().is_jupyter


class Display:
    """A bar that appears after a while, if somebody looks and no other is shown.

    Args:
        stage: what is being done.
        wanted: whether it may appear.
        delay: seconds before it does.
    """

    def __init__(self, stage: str, *, wanted: bool = True, delay: float = _DELAY) -> None:
        self._stage, self._wanted, self._delay = stage, wanted, delay
        self._bar: Bar | None = None

    def __enter__(self) -> Display:
        self._held = ExitStack()
        if self._wanted and is_watched() and self._held.enter_context(claimed()):
            from rich.console import Console

            self._bar = Bar(Console(stderr=True))
            self._bar.stage(self._stage)
            self._timer = threading.Timer(self._delay, self._bar.start)
            self._timer.daemon = True
            self._timer.start()
            if not self._delay:
                self._timer.join()
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._timer.cancel()
            self._timer.join()
            self._bar.stop()
        self._held.close()

    def update(self, done: int, total: int, counts: str, *, finishing: bool = False) -> None:
        """Shows how much is done; or, when finishing, that nothing is left but to write it."""
        if self._bar is not None:
            self._bar.update(done, total, counts, finishing=finishing)

    def note(self, text: str) -> None:
        """Shows what changes all the time."""
        if self._bar is not None:
            self._bar.note(text)


class Follower:
    """Calls what was given with each progress, or shows it; use as a context manager.

    Args:
        on_progress: what to call; "auto": a `Display`; None: nothing.
        stage: what is being done.
        delay: as of `Display`.
    """

    def __init__(self, on_progress: Shown, stage: str, delay: float = _DELAY) -> None:
        self._given = None if on_progress == "auto" else on_progress
        self._display = Display(stage, wanted=on_progress == "auto", delay=delay)

    def __enter__(self) -> OnProgress:
        self._display.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._display.__exit__(*error)

    def __call__(self, progress: Progress) -> None:
        if self._given is not None:
            self._given(progress)
        counted = progress.gradients_done, progress.gradients, counts_of(progress)
        self._display.update(*counted, finishing=progress.is_finishing)


class Bar:
    """One line that changes; a time left only while it is known how much there is to do."""

    def __init__(self, console: Console) -> None:
        from rich import progress as shown

        spinner, stage = shown.SpinnerColumn(), shown.TextColumn("{task.description}")
        elapsed, bar = shown.TimeElapsedColumn(), shown.BarColumn(_BAR)
        done = shown.TextColumn("{task.fields[counts]}"), _pace_column()
        left = shown.TextColumn("left"), shown.TimeRemainingColumn()
        self._begun = (spinner, stage, elapsed)
        self._measured: tuple[ProgressColumn, ...] = (spinner, stage, *done, *left)
        if console.width >= _WIDE:
            self._measured = (spinner, stage, bar, *done, elapsed, *left)
        self._stage = "starting"
        self._changing = threading.Lock()  # notes come from whichever thread compiles
        # Of a slow device's batches fewer than two may end within rich's own 30 s.
        self._progress = shown.Progress(
            *self._begun, console=console, speed_estimate_period=_PERIOD
        )
        self._task = self._progress.add_task(self._stage, total=None, counts="")

    def start(self) -> None:
        self._progress.start()

    def stop(self) -> None:
        self._progress.stop()

    def stage(self, name: str) -> None:
        with self._changing:
            self._stage = name
            self._progress.columns = self._begun
            self._progress.remove_task(self._task)
            self._task = self._progress.add_task(name, total=None, counts="")

    def note(self, message: str) -> None:
        with self._changing:
            self._progress.update(self._task, description=f"{self._stage}: {message}")

    def say(self, line: str) -> None:
        self._progress.console.print(line, markup=False, highlight=False)

    def update(self, done: int, total: int, counts: str, *, finishing: bool = False) -> None:
        stage = f"{self._stage}: finishing" if finishing else self._stage
        with self._changing:
            self._progress.columns = self._begun if finishing else self._measured
            self._progress.update(
                self._task, description=stage, completed=done, total=total, counts=counts
            )


def _pace_column() -> ProgressColumn:
    """How many are done per second, once that is known."""
    from rich.progress import ProgressColumn
    from rich.table import Column
    from rich.text import Text

    class Pace(ProgressColumn):
        def render(self, task: Task) -> Text:
            speed = task.finished_speed or task.speed
            return Text(pace(speed) if speed else "")

    return Pace(Column(no_wrap=True))


class Notes(logging.Handler):
    """Hands log messages to what shows them."""

    def __init__(self, show: OnNote) -> None:
        super().__init__()
        self._show = show

    def emit(self, record: logging.LogRecord) -> None:
        self._show(record.getMessage())


def counts_of(done: Progress) -> str:
    """How far it is, in lesions and gradients, or what is counted instead."""
    gradients = f"{done.gradients_done:,}/{done.gradients:,}"
    return f"{done.lesions_done}/{counted(done.lesions, 'lesion')}, {gradients} {done.unit}s"
