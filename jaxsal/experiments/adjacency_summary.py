"""Bleed by classes of gaps, the gap from which it is small, and methods compared pair by pair."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations, pairwise, product
from typing import TYPE_CHECKING

import numpy as np

from jaxsal.experiments.statistics import (
    median_of_enough,
    median_over_patients,
    paired_p,
    with_holm,
)

if TYPE_CHECKING:
    from jaxsal.tables import Row

EDGES = (0.0, 1.5, 2.5, 4.0, 6.0, 8.5, 12.5, 17.5, np.inf)
SMALL = 0.05
NEAR = 10.0  # mm, of pairs of which methods are compared
FIGURES = ("bleed", "mass_share")

SUMMARY_COLUMNS = {
    "source": "real: two lesions of a scan; copy: a lesion and a copy of it beside it",
    "method": "as in the table",
    "channel": "with respect to which the maps are",
    "gap_from": "smallest gap of the pairs in a class of gaps, mm",
    "gap_to": "largest one",
    "figure": "whose median over pairs this is: bleed, the largest magnitude of A's map within the "
    "other lesion B over that within A; mass_share, the sum of magnitudes within B over that of "
    "the whole map",
    "n": "number of pairs; a lesion explained and one beside it",
    "patients": "whose they are",
    "value": "the median; empty for fewer than five",
    "low": "95 % confidence interval, resampling patients",
    "high": "its upper end",
    "reliable_from_mm": f"gap from which on the upper end of bleed stays below {SMALL:g}, mm: the "
    "largest one of the first class of gaps of which that holds; empty: none, or no intervals",
    "median_from_mm": "the same of the median of bleed",
    "tested_from_mm": "smallest gap of the classes that count: those that have an interval or, if "
    "none has, enough pairs; answers say nothing of smaller gaps",
    "tested_to_mm": "largest gap of the classes that count: answers hold up to it",
    "first": "method that is compared",
    "second": "method that it is compared with, pair by pair",
    "difference": f"median of the difference in bleed, of pairs up to {NEAR:g} mm apart; empty for "
    "fewer than five",
    "p": "of Wilcoxon's signed-rank test, two-sided, as if pairs were independent",
    "p_holm": "adjusted after Holm for all comparisons",
}


def summary_of(rows: Sequence[Row]) -> list[Row]:
    """Rows by source, method, channel and class of gaps; answers; comparisons of methods."""
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        if row["bleed"] is not None:
            groups.setdefault((row["source"], row["method"], row["channel"]), []).append(row)
    found: list[Row] = []
    answers: list[Row] = []
    for (key, own), figure in product(groups.items(), FIGURES):
        about = dict(zip(("source", "method", "channel"), key, strict=True))
        classes = list(_classes(own, figure))
        found += [{**about, **each} for each in classes]
        if figure == "bleed":
            answers.append({**about, **answer_of(classes)})
    compared = [each for source in ("real", "copy") for each in _comparisons(source, groups)]
    return [*found, *answers, *with_holm(compared)]


def _classes(rows: Sequence[Row], figure: str) -> Iterator[Row]:
    """Medians of the classes that hold any pair, from the smallest gap on."""
    for low, high in pairwise(EDGES):
        own = [row for row in rows if low <= row["gap_mm"] < high]
        if own:
            yield {
                "gap_from": min(row["gap_mm"] for row in own),
                "gap_to": max(row["gap_mm"] for row in own),
                "figure": figure,
                **median_over_patients(own, figure),
            }


def answer_of(classes: Sequence[Row]) -> Row:
    """The gap from which on bleed stays small, by classes from the smallest gap on.

    Classes with too few pairs or patients say nothing, neither for nor against: those without an
    interval where any class has one, else those without a median. What holds of a class is shown
    for its largest gap, as bleed falls with the gap.
    """
    medians = [row for row in classes if row["value"] is not None]
    known = [row for row in medians if row["high"] is not None] or medians
    return {
        "n": sum(row["n"] for row in known),
        "reliable_from_mm": _from(known, "high"),
        "median_from_mm": _from(known, "value"),
        "tested_from_mm": known[0]["gap_from"] if known else None,
        "tested_to_mm": known[-1]["gap_to"] if known else None,
    }


def untested_below(summary: Sequence[Row]) -> Iterator[str]:
    """Sentences on answers that are the first class of gaps that counts: none smaller was asked."""
    ends = {(_about(row), row["gap_from"]): row["gap_to"] for row in summary if "gap_to" in row}
    maps: dict[tuple[str, float], list[str]] = {}
    for row in summary:
        if "tested_from_mm" not in row:
            continue
        source, method, channel = about = _about(row)
        begin = row["tested_from_mm"]
        answers = {row["reliable_from_mm"], row["median_from_mm"]} - {None}
        if begin and ends[about, begin] in answers:
            maps.setdefault((source, begin), []).append(f"{method} of {channel}")
    for (source, begin), names in maps.items():
        yield (
            f"{source}: gaps below {begin:.4g} mm could not be tested: where bleed is small from "
            f"the first gaps on that could, it may be small below them, too ({', '.join(names)})"
        )


def _about(row: Row) -> tuple[str, str, str]:
    return row["source"], row["method"], row["channel"]


def _from(classes: Sequence[Row], figure: str) -> float | None:
    found = None
    for row in reversed(classes):
        if row[figure] is None or row[figure] >= SMALL:
            break
        found = row["gap_to"]
    return found


def _comparisons(source: str, groups: dict[tuple[str, str, str], list[Row]]) -> list[Row]:
    """All pairs of methods, by the image's channel; heat maps have one map for all."""
    own = {key[1:]: rows for key, rows in groups.items() if key[0] == source}
    found = []
    for (one, channel), (other, second) in combinations(own, 2):
        if one == other or (channel != second and "heat" not in (channel, second)):
            continue
        first, last = (
            {_pair(row): row["bleed"] for row in own[key] if row["gap_mm"] <= NEAR}
            for key in ((one, channel), (other, second))
        )
        both = sorted(set(first) & set(last), key=str)
        values = np.array([(first[pair], last[pair]) for pair in both]).reshape(-1, 2)
        found.append(
            {
                "source": source,
                "first": one,
                "second": other,
                "channel": second if channel == "heat" else channel,
                "n": len(both),
                "difference": median_of_enough(values[:, 0] - values[:, 1]),
                "p": paired_p(*values.T),
                "p_holm": None,
            }
        )
    return found


def _pair(row: Row) -> tuple[object, ...]:
    return row["scan"], row["label"], row["neighbour"], row["gap_mm"]
