"""Scans one after the other, for work whose results are figures rather than files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import TypeVar

from jaxsal.errors import InputError
from jaxsal.inputs.entries import Entry
from jaxsal.inputs.read_ahead import ReadAhead

_BAD_SCAN = (InputError, OSError, MemoryError, RuntimeError)  # XLA raises the last without memory

L = TypeVar("L")
T = TypeVar("T")


def one_by_one(
    entries: Sequence[Entry], load: Callable[[Entry], L], work: Callable[[Entry, L], T]
) -> Iterator[tuple[Entry, T | None, str]]:
    """Works with every scan; the next one is read meanwhile.

    Args:
        entries: the scans.
        load: reads a scan.
        work: called with a scan and what was read.

    Yields:
        Each scan in turn, with the result of `work` and "". Where a scan cannot be read or `work`
        fails for it: None, and the reason.

    Raises:
        OutputError: results cannot be written.
    """
    with closing(ReadAhead(load, entries)) as scans:
        for entry, reading in scans:
            try:
                made = work(entry, reading.result())
            except _BAD_SCAN as error:
                yield entry, None, _reason(error)
            else:
                yield entry, made, ""


def _reason(error: BaseException) -> str:
    if isinstance(error, InputError | OSError):
        return str(error)
    return f"{type(error).__name__}: {error}".rstrip(": ")
