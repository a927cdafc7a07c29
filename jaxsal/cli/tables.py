"""Tables as commands print them: whole and unbroken into a file or pipe, fitted to a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console, JustifyMethod
    from rich.table import Table

_WIDE = 1000  # columns, where no terminal bounds them
_ROWS = 25  # of a long table, on a terminal


def make_table(first: str, *others: str, justify: JustifyMethod = "right") -> Table:
    """An empty table; its first column, and no other, is broken where a terminal is too narrow."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style=None)
    table.add_column(first, overflow="fold")
    for title in others:
        table.add_column(title, justify=justify, no_wrap=True)
    return table


def print_table(table: Table, *, whole: bool = False) -> None:
    """Prints a table to the standard output; if `whole`, unbroken on a terminal, too."""
    console = _console(whole)
    with console.capture() as captured:
        console.print(table)
    print("\n".join(line.rstrip() for line in captured.get().splitlines()))


def print_rows(names: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Prints rows as a table, unbroken everywhere; columns without text are aligned right."""
    table = make_table(*names)
    for name, column in zip(names, table.columns, strict=True):
        text = any(isinstance(row[name], str) for row in rows)
        column.justify = "left" if text else "right"
    for row in rows:
        table.add_row(*(_text(row[name]) for name in names))
    print_table(table, whole=True)


def _text(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def rows_shown(rows: int) -> int:
    """How many rows of a table of so many are to be shown: all, or the first ones on a terminal."""
    return min(rows, _ROWS) if _console().is_terminal else rows


def _console(whole: bool = False) -> Console:
    from rich.console import Console

    console = Console(highlight=False, markup=False, emoji=False)
    if whole or not console.is_terminal:
        console.width = _WIDE
    return console
