"""Tables of results: their columns and rows, and how they are written."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxsal.store.files import whole_file

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

    What a row holds besides the columns is left out; what it lacks stays empty.
    """
    with whole_file(path) as file:
        text = io.TextIOWrapper(file, "utf-8", newline="")
        table = csv.DictWriter(
            text, columns, delimiter="\t", lineterminator="\n", extrasaction="ignore"
        )
        table.writeheader()
        for row in rows:
            table.writerow({k: _shown(v) for k, v in row.items()})
        text.detach()  # which flushes; the file is not closed here


def _shown(value: Any) -> Any:
    return f"{value:.6g}" if isinstance(value, float) else value
