"""What is said of approximated maps, in pictures and on pages; what is exact is not mentioned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jaxsal.settings import EXACT

_SOME = (
    "where only some of a lesion’s voxels were differentiated, a map shows separate dots, and its "
    "peak is too low"
)
_SUMS = "where logits of several voxels were summed, a map’s peak is too high"


def is_approximated(row: Mapping[str, Any]) -> bool:
    """Whether a lesion's row of the table says so; tables without the column do not."""
    return row.get("approximated") not in (None, EXACT)


def caption(row: Mapping[str, Any]) -> str:
    """What a picture of this lesion says; empty of an exact map."""
    if not is_approximated(row):
        return ""
    how = str(row["approximated"])
    if how.startswith("sums"):
        return f"approximated by {how}"
    return f"approximated: {how} differentiated"


def banner(rows: Sequence[Mapping[str, Any]]) -> str:
    """What a page says of all its lesions; empty if all maps are exact."""
    hows = [str(row["approximated"]) for row in rows if is_approximated(row)]
    if not hows:
        return ""
    sums = any(how.startswith("sums") for how in hows)
    return (
        f"{len(hows):,} of {len(rows):,} maps are approximated (column “approximated”): "
        f"{_SUMS if sums else _SOME}."
    )
