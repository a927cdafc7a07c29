"""The page over the pictures: one HTML file to read offline, with the table and the run's facts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Literal

from jaxsal.approximated import banner, caption
from jaxsal.report.niivue import MISSING_FROM_RESULTS
from jaxsal.report.template import fill, glossary
from jaxsal.report.view import ScanView, embed
from jaxsal.store.files import whole_file
from jaxsal.tables import Column, Value
from jaxsal.wording import number


@dataclass(frozen=True)
class Cell:
    """A value as it is shown and as it is sorted."""

    text: str
    order: str


def write_page(
    path: str | Path,
    title: str,
    rows: Sequence[Mapping[str, Value]],
    columns: Sequence[Column],
    facts: Mapping[str, Mapping[str, object]],
    *,
    scale: Literal["diverging", "sequential"] = "diverging",
    level: str = "instance",
    found: int = 0,
    view: ScanView | None = None,
) -> None:
    """Write a self-contained page: table of lesions, a picture for each, facts about the run.

    Nothing is loaded from elsewhere but the pictures beside it; all given text is escaped.

    Args:
        path: the HTML file; replaced if it exists, and written whole or not at all.
        title: heading of the page.
        rows: one mapping per lesion: values by the columns' keys, and "label", the lesion's
            number; "picture", if present and not None, is a path relative to the page. What is
            missing, None or NaN is shown as a dash. Maps whose "approximated" is not "exact" are
            said to be approximated, above the table and above their pictures.
        columns: the table from left to right; the first one links to the lesion's picture.
        facts: sections of names and values, e.g. {"Settings": {"samples": 50}}.
        scale: what the pictures' colours mean, as in `lesion_figure`.
        level: "instance", or "class" for one map of all segmented voxels, whose label 0 is shown
            as "all".
        found: how many lesions there are, explained or not, for a page without rows.
        view: the files of the interactive view, which the page then holds; None: it has none. If
            NiiVue is not installed, the page says so instead.

    Raises:
        InputError: a file of the view cannot be read.
        OutputError: if the file cannot be written.
    """
    shown = embed(view, rows, f"{title} {rows}") if view and rows else None
    if level == "class":
        rows = [{**row, "label": "all"} for row in rows]
    html = fill(
        "page.html.jinja",
        title=title,
        columns=columns,
        groups=heading_groups(columns),
        texts={key for row in rows for key, value in row.items() if isinstance(value, str)},
        rows=[_row(row, columns) for row in rows],
        words=glossary({row.get("kind") for row in rows}, [column.key for column in columns]),
        banner=banner(rows),
        facts=facts,
        scale=scale,
        level=level,
        found=found,
        view=shown,
        without=MISSING_FROM_RESULTS if view and rows and shown is None else "",
    )
    with whole_file(path) as file:
        file.write(html.encode("utf-8"))


def heading_groups(columns: Sequence[Column]) -> list[tuple[str, int]]:
    """What neighbouring columns are grouped under, and how many of them."""
    return [(name, len(list(group))) for name, group in groupby(columns, lambda c: c.group)]


def _row(row: Mapping[str, Value], columns: Sequence[Column]) -> dict[str, object]:
    cells = [(column, _cell(row.get(column.key), column.digits)) for column in columns]
    return {
        "label": row["label"],
        "picture": row.get("picture"),
        "caption": caption(row),
        "cells": cells,
    }


def _cell(value: Value, digits: int | None) -> Cell:
    if isinstance(value, str):
        return Cell(value, value)
    if value is None or math.isnan(value):
        return Cell("–", "")
    return Cell(number(value, digits), repr(float(value)))
