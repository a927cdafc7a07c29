"""Reading all scans before training begins: all problems are raised together, and early."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from typing import TypeVar

from jaxsal.errors import InputError
from jaxsal.inputs.entries import Entry
from jaxsal.inputs.images import load_scan, warn_of
from jaxsal.inputs.problems import refuse
from jaxsal.inputs.read_ahead import ReadAhead
from jaxsal.preprocessing import Preprocessing
from jaxsal.processes import available_cores
from jaxsal.progress import OnCount
from jaxsal.store.records import Inputs, stamps

_READERS = 4  # each holds a scan in memory

T = TypeVar("T")
Contents = dict[str, str]
"""Of a scan: what is in each file, by the file's role."""


def read_all(
    purpose: str,
    entries: Sequence[Entry],
    read: Callable[[Entry], T],
    on_scan: OnCount,
) -> list[T]:
    """What is made of each scan, in their order; several are read at once.

    Args:
        purpose: what they are for, for messages.
        entries: the scans, each with a reference.
        read: what is done with each.
        on_scan: called after each scan, with how many are done.

    Raises:
        InputError: scans have no reference or cannot be read; one error names them all.
    """
    nameless = [
        f"{entry.id}: no mask of the true lesions: give it in a column 'reference', or select it "
        "in a BIDS folder"
        for entry in entries
        if entry.scan.reference is None
    ]
    refuse(purpose, nameless)
    found: list[T] = []
    wrong: list[str] = []
    with closing(ReadAhead(read, entries, min(_READERS, available_cores()))) as scans:
        for entry, reading in scans:
            try:
                found.append(reading.result())
            except InputError as error:
                wrong.append(f"{entry.id}: {' '.join(str(error).splitlines())}")
            on_scan(len(found) + len(wrong))
    refuse(purpose, wrong)
    return found


def check_scans(
    purpose: str,
    entries: Sequence[Entry],
    channels: tuple[str, ...],
    preprocessing: Preprocessing | None,
    on_scan: OnCount,
) -> list[Contents]:
    """Reads scans as the network takes them, and keeps no more than what their files hold.

    Args:
        purpose: as in `read_all`, and so are `entries` and `on_scan`.
        entries: the scans.
        channels: of the network, one per image.
        preprocessing: what the images must undergo.
        on_scan: called after each scan.

    Raises:
        InputError: as from `read_all`.
    """

    def read(entry: Entry) -> Contents:
        before = stamps(entry.scan, channels)
        loaded = load_scan(entry.scan, channels, preprocessing)
        warn_of(f"{entry.id}: {note}" for note in loaded.notes)
        return contents(before)

    return read_all(purpose, entries, read, on_scan)


def contents(inputs: Inputs) -> Contents:
    """The beginnings of the files' SHA-256."""
    return {role: stamp.sha256[:16] if stamp else "" for role, stamp in inputs.items()}
