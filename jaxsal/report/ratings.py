"""Ratings of maps by readers: the tables that the interactive view gives, and how readers agree."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jaxsal.errors import InputError, at_work_on
from jaxsal.extras import import_extra
from jaxsal.report.template import fill
from jaxsal.store.files import require_content
from jaxsal.tables import as_meant

GRADES = ("good", "doubtful", "wrong")
COLUMNS = ("scan", "label", "kind", "rating", "comment", "time")
_MOST_DIGITS = 20  # of a label
_NEEDED = ("label", "rating")

Place = tuple[str, int]
"""A lesion: its scan, empty for the only one, and its label."""


@dataclass(frozen=True)
class Rating:
    """What a reader said of a lesion's map.

    Attributes:
        grade: one of `GRADES`; empty for a comment alone.
        kind: of the lesion.
        comment: in the reader's words.
        time: when, as the browser wrote it.
    """

    grade: str
    kind: str = ""
    comment: str = ""
    time: str = ""


Ratings = Mapping[Place, Rating]


@dataclass(frozen=True)
class Agreement:
    """How two readers agree on the lesions that both have rated.

    Attributes:
        lesions: how many these are.
        equal: how many of them got the same grade of both.
        kappa: Cohen's κ (Cohen 1960); None where it is not defined: no lesion, or one grade alone.
        weighted: the same with linear weights (Cohen 1968), by which good and wrong differ more
            than good and doubtful.
        counts: (3, 3) lesions by the first reader's grade and the second's, as `GRADES` go.
    """

    lesions: int
    equal: int
    kappa: float | None
    weighted: float | None
    counts: tuple[tuple[int, ...], ...]


def read_ratings(path: Path, known: Mapping[Place, str]) -> dict[Place, Rating]:
    """A table of ratings (TSV), by lesion; the last of several rows of a lesion counts.

    Args:
        path: with the columns label and rating, and perhaps scan, kind, comment and time.
        known: the kinds of the lesions that there are.

    Raises:
        InputError: it cannot be read, lacks a column, or holds another grade or lesion,
            or one of another kind.
    """
    with at_work_on(path):
        require_content(path)
        try:
            text = path.read_text(encoding="utf-8-sig")
            table = csv.DictReader(io.StringIO(text), delimiter="\t")
            rows = [(table.line_num, row) for row in table]
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise InputError(f"{path} cannot be read as a table of ratings: {error}") from error
        lacking = [name for name in _NEEDED if name not in (table.fieldnames or ())]
        if lacking:
            raise InputError(
                f"{path} lacks the column {lacking[0]}: give a table that the interactive view "
                f"wrote, with the columns {', '.join(COLUMNS)}"
            )
        found: dict[Place, Rating] = {}
        for number, row in rows:
            cells = {name: as_meant(row.get(name) or "").strip() for name in COLUMNS}
            found[_place(path, number, cells, known)] = _rating(path, number, cells)
    return found


def _place(path: Path, number: int, cells: Mapping[str, str], known: Mapping[Place, str]) -> Place:
    label = cells["label"]
    whole = label.isdecimal() and label.isascii() and len(label) < _MOST_DIGITS
    place = (cells["scan"], int(label) if whole else -1)
    if place not in known:
        whose = f" of the scan {place[0]}" if place[0] else ""
        raise InputError(
            f"{path}, line {number}: these results have no lesion {label!r}{whose}; give ratings "
            "of these results"
        )
    if cells["kind"] not in ("", known[place]):
        raise InputError(
            f"{path}, line {number}: lesion {label} is rated as {cells['kind']!r}, but is "
            f"{known[place]!r} here; give ratings of these results"
        )
    return place


def _rating(path: Path, number: int, cells: Mapping[str, str]) -> Rating:
    if cells["rating"] not in ("", *GRADES):
        raise InputError(
            f"{path}, line {number}: a rating must be {', '.join(GRADES)} or empty, got "
            f"{cells['rating']!r}"
        )
    return Rating(cells["rating"], cells["kind"], cells["comment"], cells["time"])


def agreement(first: Ratings, second: Ratings) -> Agreement:
    """How two readers agree; κ by scikit-learn.

    Raises:
        InputError: scikit-learn is not installed.
    """
    metrics = import_extra("sklearn.metrics", "statistics", "Cohen's κ", "scikit-learn")
    both = [
        (first[place].grade, second[place].grade)
        for place in first
        if place in second and first[place].grade and second[place].grade
    ]
    pairs = Counter(both)
    counts = tuple(tuple(pairs[one, other] for other in GRADES) for one in GRADES)
    equal = sum(pairs[grade, grade] for grade in GRADES)
    if len({grade for pair in both for grade in pair}) < 2:
        return Agreement(len(both), equal, None, None, counts)
    ones, others = zip(*both, strict=True)
    plain, weighted = (
        float(metrics.cohen_kappa_score(ones, others, labels=GRADES, weights=weights))
        for weights in (None, "linear")
    )
    return Agreement(len(both), equal, plain, weighted, counts)


def ratings_page(title: str, readers: Sequence[tuple[str, Ratings]]) -> tuple[str, str]:
    """A page of one reader's ratings, or of two readers' side by side.

    Args:
        title: what was rated.
        readers: what each is called, and the ratings.

    Returns:
        HTML; and the counts, and the agreement of two, in sentences.

    Raises:
        InputError: of two readers, scikit-learn is not installed.
    """
    both = agreement(readers[0][1], readers[1][1]) if len(readers) == 2 else None
    summary = [_counted(name, ratings) for name, ratings in readers]
    if both is not None:
        summary.append(_agreed(both))
    places = sorted({place for _, ratings in readers for place in ratings})
    rows = [
        {
            "place": place,
            "kind": next(r[place].kind for _, r in readers if place in r),
            "ratings": [ratings.get(place) for _, ratings in readers],
        }
        for place in places
    ]
    html = fill(
        "ratings.html.jinja",
        title=f"Ratings: {title}",
        names=[name for name, _ in readers],
        rows=rows,
        scans=any(scan for scan, _ in places),
        summary=summary,
        both=both,
        grades=GRADES,
        banner="",
        facts={},
    )
    return html, "\n".join(summary)


def _counted(name: str, ratings: Ratings) -> str:
    counts = Counter(rating.grade for rating in ratings.values())
    graded = ", ".join(f"{counts[grade]} {grade}" for grade in GRADES)
    return f"{name}: {sum(counts[grade] for grade in GRADES)} rated ({graded})"


def _agreed(both: Agreement) -> str:
    if not both.lesions:
        return "no lesion was rated by both"
    said = f"rated by both: {both.lesions}, {both.equal} of them alike"
    if both.kappa is None or both.weighted is None:
        return f"{said}; Cohen’s κ is not defined where there is one grade alone"
    return f"{said}; Cohen’s κ {both.kappa:.2f}, with linear weights {both.weighted:.2f}"
