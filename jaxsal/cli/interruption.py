"""What Ctrl-C and SIGTERM leave of a command's work, in a few words."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def keeping(kept: Callable[[], str]) -> Iterator[None]:
    """Has an interruption say what is kept then; nothing, if that is an empty text."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        text = kept()
        raise type(interrupt)(f"interrupted; {text}" if text else "") from interrupt


def scans_finished(finished: int, scans: int) -> str:
    """What is kept of the work on many scans."""
    return f"{finished} of {scans} scans are finished, the same command goes on from there"
