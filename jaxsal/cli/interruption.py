"""Ctrl-C and SIGTERM: both end a command in good order, and what is kept is printed."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


class Terminated(KeyboardInterrupt):
    """SIGTERM, by which batch systems end a job; what Ctrl-C cleans up, this does too."""


@contextmanager
def terminable() -> Iterator[None]:
    """Turns SIGTERM into an exception; signals can be handled in the main thread only."""

    def terminate(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one would stop the cleaning up
        raise Terminated

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)


@contextmanager
def keeping(kept: Callable[[], str]) -> Iterator[None]:
    """Has an interruption say what is kept then; nothing, if that is an empty text."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        text = kept()
        raise type(interrupt)(f"interrupted; {text}" if text else "") from interrupt


def scans_finished(finished: int, scans: int, *, overwrite: bool) -> str:
    """What is kept of the work on many scans."""
    return f"{finished} of {scans} scans are finished, {goes_on(overwrite=overwrite)}"


def goes_on(*, overwrite: bool) -> str:
    """How to go on after an interruption of a command that was given --overwrite, or was not."""
    without = " without --overwrite, which would remove them," if overwrite else ""
    return f"the same command{without} goes on from there"
