"""What a command is doing, and how far it is: a bar on a terminal, a few lines in a log file."""

from __future__ import annotations

import logging
import sys
import time
from typing import Any

from rich.console import Console

from jaxsal.display import Bar, Notes, claimed, counts_of
from jaxsal.progress import Progress as Done
from jaxsal.wording import duration, pace

_LOG_STEP = 10  # per cent between two lines of a log file
_SILENCE = 60.0  # seconds after which one gets a line although nothing else is to be said
_logger = logging.getLogger("jaxsal")


class ProgressBar:
    """Use as a context manager; hand `stage` and `update` to what is computed.

    What is logged meanwhile, such as that a network is being compiled, is shown with the stage.
    """

    def __init__(self) -> None:
        console = Console(stderr=True)
        self._shown = Bar(console) if console.is_terminal else _Log()
        self._notes = Notes(self._shown.note)

    def __enter__(self) -> ProgressBar:
        self._claim = claimed()
        self._claim.__enter__()
        self._shown.start()
        self._before = _logger.level, _logger.propagate
        _logger.setLevel(logging.INFO)
        _logger.propagate = False  # some libraries have the root logger print everything
        _logger.addHandler(self._notes)
        return self

    def __exit__(self, *error: Any) -> None:
        _logger.removeHandler(self._notes)
        level, _logger.propagate = self._before
        _logger.setLevel(level)
        self._shown.stop()
        self._claim.__exit__(*error)

    def stage(self, name: str) -> None:
        """Shows what is being done, before it is known how much it is."""
        self._shown.stage(name)

    def update(self, done: Done) -> None:
        """Shows how many lesions and gradients are done, and how fast it goes."""
        counted = done.gradients_done, done.gradients, counts_of(done)
        self._shown.update(*counted, finishing=done.is_finishing)

    def count(self, done: int, total: int, things: str) -> None:
        """Shows how many things are done."""
        self._shown.update(done, total, f"{done:,}/{total:,} {things}")

    def detail(self, text: str) -> None:
        """Shows what changes all the time; a log file gets it after a minute without a line."""
        if isinstance(self._shown, Bar):
            self._shown.note(text)
        else:
            self._shown.sign_of_life(text)

    def say(self, line: str) -> None:
        """Adds a line that stays."""
        self._shown.say(line)


class _Log:
    """A line per stage and per step, so that the log of a long job shows that it lives."""

    def start(self) -> None:
        self._started = self._said = time.monotonic()
        self._stage, self._next = "starting", _LOG_STEP
        self._noted = ""
        self._first: tuple[int, float] | None = None  # what was done at the first update, and when

    def stop(self) -> None:
        pass

    def stage(self, name: str) -> None:
        self._stage, self._next, self._noted = name, _LOG_STEP, ""
        self._first = None
        self.say(name)

    def note(self, message: str) -> None:
        if message != self._noted:  # a stage may compile several programs
            self._noted = message
            self.say(f"{self._stage}: {message}")

    def sign_of_life(self, text: str) -> None:
        if time.monotonic() - self._said >= _SILENCE:
            self.say(f"{self._stage}: {text}")

    def update(self, done: int, total: int, counts: str, *, finishing: bool = False) -> None:
        if finishing:  # the line of 100 % comes when all is complete, and says so
            return
        if self._first is None:
            self._first = done, time.monotonic()
        share = 100 * done // max(total, 1)
        if share >= self._next:
            self._next = share - share % _LOG_STEP + _LOG_STEP
            self.say(f"{self._stage}: {share} %, {counts}{self._speed(done, total)}")

    def _speed(self, done: int, total: int) -> str:
        """Pace and time left, from the first update on, before which may have been compiled."""
        first, begun = self._first or (0, 0.0)
        seconds = time.monotonic() - begun
        if done <= first or not seconds:
            return ""
        per_second = (done - first) / seconds
        left = f", about {duration((total - done) / per_second)} left" if done < total else ""
        return f", {pace(per_second)}{left}"

    def say(self, message: str) -> None:
        self._said = time.monotonic()
        hours, seconds = divmod(int(self._said - self._started), 3600)
        elapsed = f"{hours}:{seconds // 60:02}:{seconds % 60:02}"
        print(f"[{elapsed}] {message}", file=sys.stderr, flush=True)
