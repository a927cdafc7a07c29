"""A cohort listed in a table: one line per scan."""

from __future__ import annotations

import csv
import difflib
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from jaxsal.errors import InputError, warn
from jaxsal.inputs.entries import (
    ENTITIES,
    OTHER_ROLES,
    REGION_ROLES,
    Entry,
    Scan,
    bids_labels,
    repeated,
)
from jaxsal.inputs.problems import refuse
from jaxsal.tables import as_meant

_DELIMITERS = {".tsv": "\t", ".csv": ","}
_ABSENT = ("", "n/a")
_FILES = (*OTHER_ROLES, *REGION_ROLES)
_OPTIONAL = (*_FILES, *ENTITIES)

Line = tuple[int, Mapping[str, str]]  # number in the file, cells by column


def read_manifest(path: Path, channels: Sequence[str], named_by: str = "the model") -> list[Entry]:
    """Reads a cohort from a table with a header: .tsv, or .csv with commas or semicolons.

    The columns are "scan", an id; one per channel, with the image's path; and optionally
    "reference", "instances", "mask" (of the brain), "parcellation", "region_names" and the keys of
    `ENTITIES`, with BIDS labels.
    Upper and lower case are the same; other columns are ignored. Empty cells and "n/a" stand for
    nothing. Relative paths are relative to the table's folder.

    Args:
        path: of the table, UTF-8.
        channels: of the model.
        named_by: what names the channels, for messages.

    Returns:
        One entry per line, in their order. The files may be missing.

    Raises:
        InputError: the table has errors; the message lists them all, with their lines.
    """
    columns, lines = _read(path)
    refuse(str(path), list(_wrong_columns(columns, channels, named_by)))
    _warn_of_misspelt(columns, channels)
    folder = path.parent.absolute()
    entries: dict[int, Entry] = {}
    problems: list[tuple[int, str]] = []
    for number, cells in lines:
        try:
            entries[number] = _entry(cells, channels, folder)
        except InputError as error:
            problems.append((number, str(error)))
    named = {number for number, cells in lines if cells.get("subject", "").lower() not in _ABSENT}
    problems += _repeated(list(entries), list(entries.values()), named)
    refuse(str(path), [f"line {number}: {problem}" for number, problem in sorted(problems)])
    if not entries:
        raise InputError(f"{path} lists no scan: give one line per scan below its header")
    return list(entries.values())


def columns(path: Path) -> list[str]:
    """The names of a table's columns, in lower case.

    Raises:
        InputError: it is no such table.
    """
    return _read(path)[0]


def _read(path: Path) -> tuple[list[str], list[Line]]:
    """The names of the columns, and the lines that are not empty."""
    if path.suffix.lower() not in _DELIMITERS:
        raise InputError(
            f"a manifest is a table by the name of .tsv (tabs) or .csv (commas); got {path}"
        )
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.reader(file, delimiter=_delimiter(path, file.readline()), strict=True)
            file.seek(0)
            numbered = [(rows.line_num, [as_meant(c.strip()) for c in row]) for row in rows]
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 ({error}): save it as UTF-8") from error
    except csv.Error as error:
        raise InputError(f"{path}, line {rows.line_num}: {error}") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    filled = [(number, row) for number, row in numbered if any(row)]
    if not filled:
        raise InputError(f"{path} is empty: give a header and one line per scan")
    columns = [name.lower() for name in filled[0][1]]
    refuse(str(path), [_too_long(n, row) for n, row in filled if any(row[len(columns) :])])
    return columns, [(n, dict(zip(columns, row, strict=False))) for n, row in filled[1:]]


def _delimiter(path: Path, header: str) -> str:
    """Spreadsheets write .csv with semicolons where the comma is the decimal sign."""
    if path.suffix.lower() == ".csv" and ";" in header and "," not in header:
        return ";"
    return _DELIMITERS[path.suffix.lower()]


def _too_long(number: int, row: Sequence[str]) -> str:
    return f"line {number}: {len(row)} cells are more than the header has"


def _wrong_columns(columns: Sequence[str], channels: Sequence[str], named_by: str) -> Iterator[str]:
    read = ["scan", *(channel.lower() for channel in channels), *_OPTIONAL]
    for name in ["scan", *channels]:
        if name.lower() not in columns:
            channel = f"for this channel, as named by {named_by}"
            needed = "with the scans' ids" if name == "scan" else channel
            there = ", ".join(filter(None, columns))
            yield f"line 1: there is no column {name!r}, {needed}; there are: {there}"
    for name in read:
        if columns.count(name) > 1:
            yield f"line 1: the column {name!r} is there {columns.count(name)} times"


def _warn_of_misspelt(columns: Sequence[str], channels: Sequence[str]) -> None:
    """Warns of ignored columns whose names are nearly those of optional ones."""
    wanted = set(_OPTIONAL) - set(columns)
    read = {"scan", *(channel.lower() for channel in channels), *_OPTIONAL}
    for column in sorted(set(columns) - read):
        close = difflib.get_close_matches(column, wanted, n=1, cutoff=0.8)
        if close:
            warn(
                f"the column {column!r} is not read; did you mean {close[0]!r}?",
            )


def _entry(cells: Mapping[str, str], channels: Sequence[str], folder: Path) -> Entry:
    """The entry of a line; raises one error of all that is wrong with it."""
    given = {column: text for column, text in cells.items() if text.lower() not in _ABSENT}
    name = given.get("scan", "")
    problems = [] if name else ["there is no id in the column 'scan'"]
    files: dict[str, Path] = {}
    for role in (*channels, *_FILES):
        try:
            if "\0" in given.get(role.lower(), ""):
                problems.append(f"the path in the column {role!r} holds NUL, as no file's does")
            elif role.lower() in given:
                files[role] = folder / Path(given[role.lower()]).expanduser()
            elif role in channels:
                problems.append(f"there is no image for the channel {role}")
        except RuntimeError:  # no such user
            problems.append(f"the home folder in {given[role.lower()]!r} is not known")
    images = tuple(files[channel] for channel in channels if channel in files)
    try:
        scan = Scan(images, **{role: files[role] for role in _FILES if role in files})
        if name:
            entities = bids_labels(name, {key: given[key] for key in ENTITIES if key in given})
    except InputError as error:
        problems.append(str(error))
    if problems:
        raise InputError("; ".join(problems))
    return Entry(name, scan, entities)


def _repeated(
    lines: Sequence[int], entries: Sequence[Entry], named: Collection[int]
) -> Iterator[tuple[int, str]]:
    """Yields each line whose id or results' names are those of an earlier line, with a message.

    Args:
        lines: of the entries.
        entries: of the table.
        named: the lines that have a subject.
    """
    for first, other in repeated(entry.id for entry in entries):
        if entries[first].id == entries[other].id:
            text = f"the id {entries[other].id!r} is that of line {lines[first]}, too"
            yield lines[other], text
    for first, other in repeated(entry.stem for entry in entries):
        one, two = entries[first], entries[other]
        if one.id != two.id:
            same = lines[first] in named and lines[other] in named
            columns = "'session' or 'run'" if same else "'subject', or 'session' or 'run'"
            yield (
                lines[other],
                f"{two.id!r} and {one.id!r} (line {lines[first]}) would both be called "
                f"{two.stem}: give a column {columns} in which they differ",
            )
