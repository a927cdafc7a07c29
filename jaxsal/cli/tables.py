"""Tables as commands print them: whole and unbroken into a file or pipe, fitted to a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

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


def print_table(table: Table) -> None:
    """Prints a table to the standard output."""
    console = _console()
    with console.capture() as captured:
        console.print(table)
    print("\n".join(line.rstrip() for line in captured.get().splitlines()))


def rows_shown(rows: int) -> int:
    """How many rows of a table of so many are to be shown: all, or the first ones on a terminal."""
    return min(rows, _ROWS) if _console().is_terminal else rows


def _console() -> Console:
    from rich.console import Console

    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = _WIDE
    return console
