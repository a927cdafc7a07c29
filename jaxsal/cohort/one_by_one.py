"""Scans one after the other, for work that hands over no more than figures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import zip_longest
from typing import TypeVar

from jaxsal.errors import InputError, OutputError
from jaxsal.inputs.entries import Entry
from jaxsal.inputs.scan import LoadedScan, load_scan
from jaxsal.model import Model

_BAD_SCAN = (InputError, OSError, MemoryError, RuntimeError)  # the last is how XLA lacks memory

T = TypeVar("T")


def one_by_one(
    entries: Sequence[Entry], model: Model, work: Callable[[Entry, LoadedScan], T]
) -> Iterator[tuple[Entry, T | None, str]]:
    """Does the same with every scan; the next one is read meanwhile.

    Yields:
        Each scan in turn, with what was made of it, or None and why it cannot be worked with: that
        is no error.

    Raises:
        OutputError: results cannot be written.
    """
    for entry, reading in _read_ahead(entries, model):
        try:
            made = work(entry, reading.result())
        except OutputError:
            raise
        except _BAD_SCAN as error:
            yield entry, None, _told(error)
        else:
            yield entry, made, ""


def _read_ahead(
    entries: Sequence[Entry], model: Model
) -> Iterator[tuple[Entry, Future[LoadedScan]]]:
    with ThreadPoolExecutor(1, "reader") as pool:
        ahead: Future[LoadedScan] | None = None
        for entry, following in zip_longest(entries, entries[1:]):
            reading = ahead or pool.submit(load_scan, entry.scan, model)
            ahead = pool.submit(load_scan, following.scan, model) if following else None
            yield entry, reading


def _told(error: BaseException) -> str:
    if isinstance(error, InputError | OSError):
        return str(error)
    return f"{type(error).__name__}: {error}".rstrip(": ")
