"""Areas under the curves of `faithfulness` over lesions, and whether a map beats the distance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product

import numpy as np

from jaxsal.experiments.faithfulness_curves import ALL, DIRECTIONS
from jaxsal.experiments.statistics import median, paired_p, pooled, with_holm
from jaxsal.tables import Row

REFERENCE = "distance"
FIGURES = {"logit": "auc", "probability": "auc_probability"}
"""What areas are of, and their columns in the table."""

_END = "95 % confidence interval of the figure before it, resampling patients; empty: too few"

SUMMARY_COLUMNS = {
    "infill": "what takes the place of hidden voxels",
    "channel": "in which voxels are hidden, or all",
    "direction": "deletion: the smaller the area the better; insertion: the larger the better",
    "figure": "what the curve is of: logit, the lesion's mean logit (auc of the table); "
    "probability, its mean lesion probability (auc_probability of the table)",
    "method": "by whose map voxels are ranked; random and distance know nothing of the network",
    "n": "number of lesions",
    "patients": "whose they are",
    "left_out": "lesions without an area, which are not among them: hiding all voxels hardly "
    "lowers the figure",
    "auc": "median over lesions of the area under the normalised curve; empty for fewer than five "
    "lesions",
    "low": _END,
    "high": "its upper end",
    "gain": "median over lesions of how much better the area is than that of the ranking by "
    "distance; more than 0: the map says more than that what matters is near; empty for fewer than "
    "five",
    "gain_low": _END,
    "gain_high": "its upper end",
    "p": "of no gain, by Wilcoxon's signed-rank test of lesions, as if they were independent; "
    "empty for fewer than five that differ",
    "p_holm": "adjusted after Holm for all rows of the same figure that are tested",
    "turned": "share of lesions that are missed in the end (deletion: no voxel reaches the "
    "threshold), or found (insertion: one does); of those whose logit has an area; empty for fewer "
    "than five",
    "turned_low": _END,
    "turned_high": "its upper end",
    "n_turned": "number of these",
    "turning_percent": "median over these of the part of the ranked voxels, in %, that is hidden "
    "when the lesion is missed for good, or shown when it is found for good; empty for fewer than "
    "five",
    "turning_low": _END,
    "turning_high": "its upper end",
}

Curves = Mapping[tuple[str, ...], Sequence[Row]]
"""Rows of the table by infill, channel, direction and method: a lesion each, in one order."""


def summary_of(
    rows: Sequence[Row], methods: Sequence[str], infills: Sequence[str], channels: Sequence[str]
) -> list[Row]:
    """Areas of logits, of probabilities, and detection, with each infill, of all and each channel.

    Args:
        rows: of the table.
        methods: all that rank, `REFERENCE` among them.
        infills: in their order.
        channels: names.
    """
    curves: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        key = row["infill"], row["channel"], row["direction"], row["method"]
        curves.setdefault(key, []).append(row)
    asked = list(product(infills, (ALL, *channels), DIRECTIONS, methods))
    found: list[Row] = []
    for figure in FIGURES:
        found += with_holm([_area(curves, figure, *each) for each in asked])
    return found + [_detection(curves, *each) for each in asked]


def _area(
    curves: Curves, figure: str, infill: str, channel: str, direction: str, method: str
) -> Row:
    """The areas of a method, and how much better they are than those by distance."""
    place, column = (infill, channel, direction), FIGURES[figure]
    asked = curves.get((*place, method), ())
    # All methods' curves of a lesion have an area, or none has.
    own, others = (_with(curves.get((*place, name), ()), column) for name in (method, REFERENCE))
    areas, distances = (np.array([r[column] for r in each], float) for each in (own, others))
    patients = [row["subject"] for row in own]
    better = distances - areas if direction == "deletion" else areas - distances
    area, gain = (pooled(median, each, patients) for each in (areas, better))
    compared = method != REFERENCE
    return {
        "infill": infill,
        "channel": channel,
        "direction": direction,
        "figure": figure,
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
    }


def _detection(curves: Curves, infill: str, channel: str, direction: str, method: str) -> Row:
    """How many lesions are missed, or found, in the end, and from which part on."""
    own = _with(curves.get((infill, channel, direction, method), ()), FIGURES["logit"])
    turned = _with(own, "turning_percent")
    share = pooled(
        np.mean, [r["turning_percent"] is not None for r in own], [r["subject"] for r in own]
    )
    part = pooled(median, [r["turning_percent"] for r in turned], [r["subject"] for r in turned])
    return {
        "infill": infill,
        "channel": channel,
        "direction": direction,
        "method": method,
        "n": share.n,
        "patients": share.patients,
        "turned": share.value,
        "turned_low": share.low,
        "turned_high": share.high,
        "n_turned": part.n,
        "turning_percent": part.value,
        "turning_low": part.low,
        "turning_high": part.high,
    }


def _with(rows: Sequence[Row], column: str) -> list[Row]:
    """Rows in which a column is not empty."""
    return [row for row in rows if row[column] is not None]
