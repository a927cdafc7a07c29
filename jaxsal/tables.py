"""Tables of results: their columns and rows, and how they are written."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxsal.store.files import whole_file

# What spreadsheets compute when they open a table: text after a sign, but no number.
_FORMULA = re.compile(r"[=+@-](?!\.?\d+(\.\d*)?([eE][+-]?\d+)?$).")
Value = str | int | float | None
Row = dict[str, Any]


@dataclass(frozen=True)
class Column:
    """One column of the table.

    Attributes:
        key: where a row keeps the value.
        heading: short name above the column.
        description: what it is, with units; shown when the pointer rests on the heading.
        digits: decimals of its numbers; None for three significant digits.
        group: heading shared with neighbouring columns, e.g. a channel's name.
    """

    key: str
    heading: str
    description: str
    digits: int | None = None
    group: str = ""


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Row]) -> None:
    """Writes a table as tab-separated values, a header line even if there are no rows.

    What a row holds besides the columns is left out; what it lacks stays empty. Text that a
    spreadsheet would take for a formula gets an apostrophe in front.
    """
    with open_table(path, columns) as write:
        for row in rows:
            write(row)


@contextmanager
def open_table(path: Path, columns: Sequence[str]) -> Iterator[Callable[[Row], None]]:
    """As `write_table`, row by row: yields what writes one."""
    with whole_file(path) as file:
        text = io.TextIOWrapper(file, "utf-8", "backslashreplace", newline="")
        table = csv.writer(text, delimiter="\t", lineterminator="\n")
        table.writerow(map(_shown, columns))
        yield lambda row: table.writerow([_shown(row.get(name)) for name in columns])
        text.detach()  # which flushes; the file is not closed here


def as_meant(cell: str) -> str:
    """The text of a cell, without the apostrophe that `write_table` may have put in front."""
    return cell[1:] if cell[:1] == "'" and _FORMULA.match(cell[1:]) else cell


def _shown(value: Any) -> Any:
    if isinstance(value, float):
        return f"{value:.6g}"
    return f"'{value}" if isinstance(value, str) and _FORMULA.match(value) else value
