"""What the row of a lesion may hold where it was read from a record: what tables are made of."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from jaxsal.errors import InputError
from jaxsal.scan.region_table import REGIONS, are_regions

WHOLE = ("label", "voxels", "samples")
"""Columns of whole numbers."""

TEXT = ("approximated", "scan", "subject", "session", "kind", "region")
"""Columns of text; all others are of numbers."""

_NEEDED = ("scan", "label", "kind", "voxels", "volume_mm3", "seconds")
_MOST = 2**53  # of whole numbers, which a table's numbers hold without rounding


def check_row(row: Mapping[str, Any]) -> None:
    """Raises InputError unless a row can be one that a run made."""
    missing = [key for key in _NEEDED if row.get(key) is None]
    if missing:
        raise InputError(f"a row lacks {missing[0]}")
    wrong = [key for key, value in row.items() if not _fits(key, value)]
    if wrong:
        raise InputError(f"{wrong[0]} of a row is {row[wrong[0]]!r}")
    if row["label"] < 0 or not math.isfinite(row["volume_mm3"]):
        raise InputError("a row is of no lesion")


def _written(text: str) -> str:
    """A text as tables hold it: without halves of characters."""
    return text.encode("utf-8", "replace").decode()


def _fits(key: str, value: Any) -> bool:
    if key == REGIONS:
        return are_regions(value)
    if key in TEXT:
        return value is None or (isinstance(value, str) and value == _written(value))
    if isinstance(value, bool) or (isinstance(value, int) and abs(value) > _MOST):
        return False
    return isinstance(value, int | None if key in WHOLE else int | float | None)
