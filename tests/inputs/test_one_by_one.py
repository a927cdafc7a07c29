"""Scans one after the other: in order, the next one read meanwhile, bad ones reported."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from jaxsal.errors import InputError, OutputError
from jaxsal.inputs.entries import Entry, Scan
from jaxsal.inputs.read_ahead import ReadAhead, one_by_one

ENTRIES = [Entry(name, Scan((Path(name),)), {"subject": name}) for name in "abcd"]


def load(entry: Entry) -> str:
    return entry.scan.images[0].name


def test_bad_scans_are_reported_in_their_place():
    def work(entry: Entry, loaded: str) -> str:
        errors = {"b": InputError("no lesion"), "c": RuntimeError("out of memory")}
        if entry.id in errors:
            raise errors[entry.id]
        return 2 * loaded

    found = [(entry.id, made, why) for entry, made, why in one_by_one(ENTRIES, load, work)]
    assert found == [
        ("a", "aa", ""),
        ("b", None, "no lesion"),
        ("c", None, "RuntimeError: out of memory"),
        ("d", "dd", ""),
    ]


def test_results_that_cannot_be_written_end_it():
    def work(entry: Entry, loaded: str) -> str:
        raise OutputError("disk full")

    with pytest.raises(OutputError, match="disk full"):
        list(one_by_one(ENTRIES, load, work))


def test_the_next_scan_is_read_while_one_is_worked_with_and_no_other():
    begun = {entry.id: threading.Event() for entry in ENTRIES}
    reader = ReadAhead(lambda entry: begun[entry.id].set(), ENTRIES)
    entry, reading = next(iter(reader))
    reading.result()
    assert entry.id == "a"
    assert begun["b"].wait(10)
    assert not begun["c"].is_set()
    reader.close()
