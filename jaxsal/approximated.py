"""What is said of approximated maps, in pictures and on pages; what is exact is not mentioned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxsal.saliency.methods.smoothgrad import SmoothGradSettings

EXACT = "exact"
"""How a signed maximum over all voxels of a lesion is computed, in the table and for captions."""

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


def warning(settings: SmoothGradSettings) -> str:
    """What maps of these settings must not be taken for; empty if they are exact."""
    few, group = settings.voxels_per_lesion, settings.group_size
    if settings.aggregate != "max" or (few is None and group == 1):
        return ""
    how = f"of {few} voxels of each" if few else f"of sums over {group} voxels each"
    return (
        f"the signed maximum over a lesion is approximated: it is that {how}, so peaks are not "
        "those of Eq. 3, and depend on size in another way"
    )


def footnote(settings: SmoothGradSettings, some: int, all_of_them: int) -> str:
    """What a figure says of which some maps are approximated; empty if none is."""
    if not some:
        return ""
    few, group = settings.voxels_per_lesion, settings.group_size
    how = f"{few} voxels of each differentiated" if few else f"by sums of {group} voxels"
    return f"approximated: {some:,} of {all_of_them:,} maps, {how}"
