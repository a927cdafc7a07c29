"""Areas under the curves of `faithfulness` over lesions, and whether a map beats the distance."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np

from jaxsal.experiments.faithfulness_curves import ALL, DIRECTIONS
from jaxsal.experiments.statistics import FEWEST_IN_GROUP, paired_p, pooled, with_holm
from jaxsal.tables import Row

REFERENCE = "distance"
_END = "95 % confidence interval, resampling patients; empty: there are too few"

SUMMARY_COLUMNS = {
    "infill": "what takes the place of hidden voxels",
    "channel": "in which voxels are hidden, or all",
    "direction": "deletion: the smaller the area the better; insertion: the larger the better",
    "method": "by whose map voxels are ranked; random and distance know nothing of the network",
    "n": "number of lesions",
    "patients": "whose they are",
    "left_out": "lesions without an area, which are not among them: hiding all voxels hardly "
    "lowers their logits",
    "auc": "median over lesions of the area under the normalised curve of the mean logit; empty "
    "for fewer than five lesions",
    "low": _END,
    "high": "its upper end",
    "gain": "median over lesions of how much better the area is than that of the ranking by "
    "distance; more than 0: the map says more than that what matters is near",
    "gain_low": _END,
    "gain_high": "its upper end",
    "p": "of no gain, by Wilcoxon's signed-rank test of lesions, as if they were independent",
    "p_holm": "adjusted after Holm for all rows that are tested",
    "auc_probability": "as auc, of the mean lesion probability, where that has an area",
    "turned": "lesions that are missed in the end (deletion), or found (insertion)",
    "turning_percent": "median of the part of the voxels from which on they are",
}


def summary_of(
    rows: Sequence[Row], methods: Sequence[str], infills: Sequence[str], channels: Sequence[str]
) -> list[Row]:
    """All channels together with each infill; each channel with the first.

    Args:
        rows: of the table.
        methods: all that rank, `REFERENCE` among them.
        infills: in their order.
        channels: names.
    """
    places = [(infill, ALL) for infill in infills] + [(infills[0], name) for name in channels]
    found = [
        _row(rows, infill, channel, direction, method)
        for (infill, channel), direction, method in product(places, DIRECTIONS, methods)
    ]
    return with_holm(found)


def _row(rows: Sequence[Row], infill: str, channel: str, direction: str, method: str) -> Row:
    place = {"infill": infill, "channel": channel, "direction": direction}
    asked, others = (list(_of(rows, {**place, "method": m})) for m in (method, REFERENCE))
    # All methods' curves of a lesion have an area, or none has.
    own, reference = ([r for r in each if r["auc"] is not None] for each in (asked, others))
    areas = np.array([row["auc"] for row in own], np.float64)
    distances = np.array([row["auc"] for row in reference], np.float64)
    patients = [row["subject"] for row in own]
    better = distances - areas if direction == "deletion" else areas - distances
    area, gain = (pooled(_median, each, patients) for each in (areas, better))
    compared = method != REFERENCE
    return {
        **place,
        "method": method,
        "n": area.n,
        "patients": area.patients,
        "left_out": len(asked) - len(own),
        "auc": area.value,
        "low": area.low,
        "high": area.high,
        "gain": gain.value if compared else None,
        "gain_low": gain.low if compared else None,
        "gain_high": gain.high if compared else None,
        "p": paired_p(better, np.zeros_like(better)) if compared else None,
        "p_holm": None,
        "auc_probability": _median_of(own, "auc_probability"),
        "turned": sum(row["turning_percent"] is not None for row in own),
        "turning_percent": _median_of(own, "turning_percent"),
    }


def _of(rows: Sequence[Row], wanted: Row) -> Iterator[Row]:
    """The rows of some curves."""
    return (row for row in rows if all(row[key] == value for key, value in wanted.items()))


def _median_of(rows: Sequence[Row], column: str) -> float | None:
    """Of what a column holds, where it is not empty; None of too few."""
    known = [row[column] for row in rows if row[column] is not None]
    return _median(np.array(known)) if len(known) >= FEWEST_IN_GROUP else None


def _median(values: np.ndarray) -> float:
    return float(np.median(values))
