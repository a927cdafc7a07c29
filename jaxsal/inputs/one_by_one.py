"""Scans one after the other, for work whose results are figures rather than files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import TypeVar

from jaxsal.errors import InputError
from jaxsal.inputs.entries import Entry
from jaxsal.inputs.read_ahead import ReadAhead
from jaxsal.inputs.scan import LoadedScan, TakesImages, load_scan

_BAD_SCAN = (InputError, OSError, MemoryError, RuntimeError)  # XLA raises the last without memory

T = TypeVar("T")


def one_by_one(
    entries: Sequence[Entry], network: TakesImages, work: Callable[[Entry, LoadedScan], T]
) -> Iterator[tuple[Entry, T | None, str]]:
    """Calls a function with every scan; the next scan is read meanwhile.

    Yields:
        Each scan in turn, with what the function returned and "". Where a scan cannot be read or
        the function fails for it: None, and the reason.

    Raises:
        OutputError: results cannot be written.
    """
    with closing(ReadAhead(lambda entry: load_scan(entry.scan, network), entries)) as scans:
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
