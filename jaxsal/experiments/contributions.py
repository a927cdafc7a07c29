"""What each sequence contributes: positive and negative values, and where they lie (Figs. 8, 9)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from jaxsal.errors import require
from jaxsal.experiments.catalogue import Experiment
from jaxsal.experiments.contributions_figure import draw
from jaxsal.experiments.contributions_magnitudes import PRECISION, interval_over_subjects
from jaxsal.experiments.contributions_tally import SHELLS, SIGNS, Signed, Tally
from jaxsal.experiments.findings import Findings
from jaxsal.experiments.statistics import FEWEST_SUBJECTS, median_interval
from jaxsal.figures.palette import kinds_in_order
from jaxsal.options import option
from jaxsal.tables import Row

if TYPE_CHECKING:
    from jaxsal.experiments.study import Study

COLUMNS = {
    "kind": "of the lesions: TP, FP or FN against the reference; predicted; given",
    "channel": "with respect to which the maps are",
    "sign": "of the values",
    "from_mm": "distance from the lesion's border, negative inside; empty: the whole map",
    "to_mm": "to this distance; empty: no bound",
    "lesions": "number of maps",
    "voxels": "number of values of this sign whose magnitude is at least the least one",
    "amount": "sum of all values of this sign, per lesion",
    "share": "this sign's part of the sum of magnitudes, from 0 to 1",
    "median": "of these, of all lesions together",
    "low": "95 % confidence interval of it, as if all voxels were independent",
    "high": "its upper end",
    "subjects": "number of subjects with any such lesion",
    "subjects_low": "95 % confidence interval of the median, resampling subjects",
    "subjects_high": "its upper end",
    "lesion_median": "median over lesions of each lesion's own median: lesions count alike",
    "lesions_with": "number of lesions with any such value",
    "lesion_low": "95 % confidence interval of it, as if lesions were independent",
    "lesion_high": "its upper end",
}

_IN_ALL = ("kind", "channel", "lesions")
_OF_MEDIANS = (  # tables, each narrow enough to be read in a terminal
    ("voxels", "median", "low", "high"),
    ("subjects", "subjects_low", "subjects_high"),
    ("lesions_with", "lesion_median", "lesion_low", "lesion_high"),
)
_SHARE = "positive part of the sum of magnitudes"
SUMMARY_COLUMNS = {
    **{name: COLUMNS[name] for names in (_IN_ALL, ("sign",), *_OF_MEDIANS) for name in names},
    "positive_share_inside": f"{_SHARE} inside lesions, from 0 to 1",
    "positive_share_0_to_3mm": f"{_SHARE} within 3 mm around them",
    "positive_share_3_to_12mm": f"{_SHARE} from 3 to 12 mm around them",
    "mm_with_99_percent": "distance from the lesion's border within which 99 % of the sum of "
    "magnitudes lie; empty: there is none, or it is beyond the last one that is resolved",
    "mm_of_farthest_counted_value": "distance within which all voxels lie whose magnitude is at "
    "least the least one that counts; empty: there is none, or some lie beyond the last distance "
    "that is resolved",
}


@dataclass(frozen=True)
class ContributionsSettings:
    """Settings of `contributions`.

    Attributes:
        least_value: magnitude below which values do not count, in logits per standard deviation.
    """

    least_value: float = option(0.1, "T")

    def __post_init__(self) -> None:
        valid = 0 <= self.least_value < math.inf
        require(valid, "least value", "zero or more", self.least_value)


def contributions(study: Study, settings: ContributionsSettings) -> Findings:
    """Distributions of values by kind, channel and sign, and where they lie.

    Maps are read one after the other and only counts of their values are kept. Medians have a
    relative error of at most 0.05 %, however many maps there are.

    Raises:
        InputError: the study's folder holds something else.
    """
    results = study.lesions()
    tally = Tally(settings.least_value)
    study.monitor.stage("contributions")
    read = 0
    for scan in results.scans():
        read += tally.add_scan(scan, results.methods["smoothgrad-max"])
        study.monitor.detail(f"{scan.id}: {read} maps read")
    if not tally.lesions:
        study.note_none("no lesion was found in any scan: there is no map to look at")
        return Findings(COLUMNS, [], [], None, tuple(study.notes))
    kinds = kinds_in_order(tally.lesions)
    shown = "TP" if "TP" in kinds else max(kinds, key=lambda kind: tally.lesions[kind])
    rows = [row for kind in kinds for row in _rows(tally, kind, results.channels)]
    _note(study, tally, shown)
    return Findings(
        COLUMNS,
        rows,
        _summary(tally, rows, kinds, results.channels),
        draw(tally, kinds, shown, results.channels),
        tuple(study.notes),
        SUMMARY_COLUMNS,
    )


def _rows(tally: Tally, kind: str, channels: tuple[str, ...]) -> Iterator[Row]:
    for channel in channels:
        both = {sign: tally.signed[kind, channel, sign] for sign in SIGNS}
        total = np.sum([signed.amount for signed in both.values()], axis=0)
        for sign, signed in both.items():
            direction = 1 if sign == "positive" else -1
            first = {"kind": kind, "channel": channel, "sign": sign, "lesions": tally.lesions[kind]}
            yield {
                **first,
                "voxels": signed.magnitudes.count,
                "amount": direction * float(signed.amount.sum()) / tally.lesions[kind],
                "share": _share(signed.amount.sum(), total.sum()),
                **_medians(signed, direction),
            }
            for (low, high), voxels, amount, all_of_it in zip(
                SHELLS.bounds, signed.voxels, signed.amount, total, strict=True
            ):
                if all_of_it:  # else there is no voxel at this distance, or none that matters
                    yield {
                        **first,
                        "from_mm": None if np.isinf(low) else low,
                        "to_mm": None if np.isinf(high) else float(high),
                        "voxels": int(voxels),
                        "amount": direction * float(amount) / tally.lesions[kind],
                        "share": _share(amount, all_of_it),
                    }


def _medians(signed: Signed, direction: int) -> Row:
    """The medians of a sign, with intervals, as signed values."""
    medians = np.array(signed.medians)
    return {
        "median": _directed(signed.magnitudes.median, direction),
        **_ends("", signed.magnitudes.interval, direction),
        "subjects": len(signed.subjects),
        **_ends("subjects_", interval_over_subjects(signed.subjects.values()), direction),
        "lesion_median": _directed(np.median(medians) if len(medians) else np.nan, direction),
        "lesions_with": len(medians),
        **_ends("lesion_", median_interval(medians), direction),
    }


def _ends(name: str, interval: tuple[float, float] | None, direction: int) -> Row:
    low, high = sorted(direction * end for end in interval) if interval else (None, None)
    return {f"{name}low": low, f"{name}high": high}


def _directed(magnitude: float, direction: int) -> float | None:
    return None if np.isnan(magnitude) else direction * float(magnitude)


def _share(part: float, whole: float) -> float | None:
    return float(part / whole) if whole else None


def _summary(
    tally: Tally, rows: list[Row], kinds: list[str], channels: tuple[str, ...]
) -> list[Row]:
    whole = [row for row in rows if "median" in row]
    medians = [
        {name: row[name] for name in ("kind", "channel", "sign", "lesions", *names)}
        for names in _OF_MEDIANS
        for row in whole
    ]
    places = [_places(tally, kind, channel) for kind in kinds for channel in channels]
    return [*medians, *(shares for shares, _ in places), *(distances for _, distances in places)]


def _places(tally: Tally, kind: str, channel: str) -> tuple[Row, Row]:
    """What share of a channel's values is positive, near and far; and how far away they lie."""
    positive, negative = (tally.signed[kind, channel, sign] for sign in SIGNS)
    total = positive.amount + negative.amount
    lower, upper = np.array(SHELLS.bounds).T
    first: Row = {"kind": kind, "channel": channel, "lesions": tally.lesions[kind]}
    shares = {}
    for name, low, high in (("inside", -np.inf, 0), ("0_to_3mm", 0, 3), ("3_to_12mm", 3, 12)):
        part = (lower >= low) & (upper <= high)
        shares[f"positive_share_{name}"] = _share(positive.amount[part].sum(), total[part].sum())
    strong = np.flatnonzero(positive.voxels + negative.voxels)
    # Of what lies beyond the last step nobody knows how far.
    within = np.searchsorted(np.cumsum(total), 0.99 * total.sum()) if total.any() else None
    return first | shares, first | {
        "mm_with_99_percent": None if within is None else _finite(upper[within]),
        "mm_of_farthest_counted_value": _finite(upper[strong[-1]]) if len(strong) else None,
    }


def _finite(distance: float) -> float | None:
    return float(distance) if np.isfinite(distance) else None


def _note(study: Study, tally: Tally, shown: str) -> None:
    study.note(
        f"medians are of values whose magnitude is at least {tally.least:g}, exact to "
        f"{100 * PRECISION:.2g} %; amounts and shares are of all values"
    )
    study.note(
        "low and high take each voxel for independent, as an interval of so many values must that "
        "is as narrow as the paper's; voxels of a map are not, so resampling subjects, which needs "
        f"{FEWEST_SUBJECTS} or more, shows what to expect of others"
    )
    if shown != "TP":
        study.note(f"no lesion is TP (needs references): the figure shows those that are {shown}")


EXPERIMENT = Experiment(contributions, ContributionsSettings)
