"""The lesions of a scan, as a table on the terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxsal.cli.tables import make_table, print_table, rows_shown
from jaxsal.wording import number

if TYPE_CHECKING:
    from jaxsal.saliency.methods.appearance import Appearance
    from jaxsal.tables import Row

_DECIMALS = {"volume_mm3": 1, "x_mm": 1, "y_mm": 1, "z_mm": 1, "lsu": 2, "entropy": 2}
_FOUND = {
    **{"label": "label", "kind": "kind", "voxels": "voxels", "volume_mm3": "mm³"},
    **{"x_mm": "x_mm", "y_mm": "y_mm", "z_mm": "z_mm"},
}
_EXPLAINED = {"label": "label", "kind": "kind", "volume_mm3": "mm³"}
_WHERE_KNOWN = ("region", "lsu", "entropy")
_PEAKS = ("max", "min")  # of a map's statistics


def show_found(rows: Sequence[Row], out: Path) -> None:
    """Prints lesions, true ones first and by size; where they lie as the centroid in mm."""
    _show(rows, {**_FOUND, **_known(rows)}, out)


def show_explained(rows: Sequence[Row], shown: Appearance, out: Path) -> None:
    """Prints lesions in the same order, each with the peaks of its maps.

    Args:
        rows: of the table.
        shown: how the maps appear.
        out: folder that has the whole table.
    """
    from jaxsal.approximated import is_approximated

    peaks = {
        column.key: f"{column.group} {column.heading}"
        for column in shown.page_columns()
        if column.key in {f"{name}_{peak}" for name in shown.maps for peak in _PEAKS}
    }
    approximated = {"approximated": "approximated"} if any(map(is_approximated, rows)) else {}
    _show(rows, {**_EXPLAINED, **_known(rows), **peaks, **approximated}, out)


def _known(rows: Sequence[Row]) -> dict[str, str]:
    """Columns that are there only where a parcellation or members are."""
    return {key: key for key in _WHERE_KNOWN if any(key in row for row in rows)}


def _show(rows: Sequence[Row], columns: Mapping[str, str], out: Path) -> None:
    from jaxsal.scan.lesion_table import for_reading

    if not rows:
        return
    table, shown = make_table(*columns.values()), rows_shown(len(rows))
    for row in for_reading(rows)[:shown]:
        table.add_row(*(_text(key, row.get(key)) for key in columns))
    print_table(table)
    if shown < len(rows):
        print(f"... and {len(rows) - shown} more in {out / 'instances.tsv'}")


def _text(key: str, value: Any) -> str:
    if value is None:
        return "–"
    if not isinstance(value, float) or not math.isfinite(value):
        return str(value)
    return number(value, _DECIMALS.get(key)).replace("−", "-")  # which other programs can read
