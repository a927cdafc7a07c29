"""How the map of a candidate for a missed lesion compares with that of the expert's mark."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from jaxsal.experiments.placed import Opened
from jaxsal.tables import Row

if TYPE_CHECKING:
    from jaxsal.cohort.results import CohortResults
    from jaxsal.saliency.maps import Crop


def compared(results: CohortResults, plans: Sequence[Row]) -> Iterator[Row]:
    """The maps of pairs, compared channel by channel.

    Args:
        results: the maps of marks and candidates.
        plans: of a scan "scan", the "pairs" of a mark's label and a candidate's, and what the scans
            with their domains are called: "mark" and "candidate".

    Returns:
        Rows by "scan" and "label" of the mark; pairs of a scan that failed are left out.
    """
    opened = Opened(results)
    for plan in plans:
        mark, candidate = opened.scan(plan["mark"]), opened.scan(plan["candidate"])
        if mark is None or candidate is None:
            continue
        for label, other in plan["pairs"]:
            one, two = mark.map(label, opened.method), candidate.map(other, opened.method)
            both = zip(results.channels, channels_compared(one, two), strict=True)
            found = {f"{name}_{key}": each[key] for name, each in both for key in each}
            yield {"scan": plan["scan"], "label": label, **found}


def channels_compared(mark: Crop, candidate: Crop) -> list[dict[str, float | None]]:
    """Of each channel Pearson's correlation of two maps, and the ratio of their largest values.

    The correlation is that over all voxels where either map may be non-zero; None where a map is
    constant. The ratio, candidate's over mark's, is None unless the mark's peak is above 0.
    """
    whole = mark.box | candidate.box
    one, other = mark.on(whole), candidate.on(whole)
    channels = range(one.shape[-1])
    return [_compared(one[..., c].ravel(), other[..., c].ravel()) for c in channels]


def _compared(mark: np.ndarray, candidate: np.ndarray) -> dict[str, float | None]:
    constant = np.ptp(mark) == 0 or np.ptp(candidate) == 0
    peak = float(mark.max())
    return {
        "correlation": None if constant else float(np.corrcoef(mark, candidate)[0, 1]),
        "peak_ratio": float(candidate.max()) / peak if peak > 0 else None,
    }
