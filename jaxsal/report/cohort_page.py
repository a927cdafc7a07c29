"""The page over a whole cohort: one HTML file to read offline, with every lesion's row in it."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from importlib.metadata import distribution
from numbers import Integral
from pathlib import Path
from types import MappingProxyType
from typing import Any

from markupsafe import Markup

from jaxsal.approximated import banner
from jaxsal.figures.distributions import distribution_svg
from jaxsal.figures.palette import kinds_in_order
from jaxsal.report.page import heading_groups
from jaxsal.report.template import fill, glossary
from jaxsal.report.view import embedded
from jaxsal.store.files import whole_file
from jaxsal.tables import Column, Value
from jaxsal.types import Scale

Rows = Sequence[Mapping[str, Any]]

_NONE: Mapping[str, str] = MappingProxyType({})
_SIGNED: Mapping[str, Scale] = MappingProxyType({"": "diverging"})
SHOWN = 4  # columns of a group, unless given: of up to fifty, nobody reads all at once


def write_cohort_page(
    path: str | Path,
    title: str,
    columns: Sequence[Column],
    rows: Rows,
    scans: Rows,
    facts: Mapping[str, Mapping[str, object]],
    *,
    ranges: Collection[str] = (),
    violins: Mapping[str, str] = _NONE,
    shown: Collection[str] | None = None,
    pictures: Mapping[str, Scale] = _SIGNED,
    missing: str = "No picture was made of this lesion.",
    level: str = "instance",
    regions: tuple[Sequence[Column], Rows] = ((), ()),
    views: Mapping[str, str] = _NONE,
) -> None:
    """Write a self-contained page: a table of all lesions, their pictures on demand, the run.

    Nothing is loaded from elsewhere, and from beside the page only the picture of the lesion that
    the reader chooses; all given text is escaped. Numbers have six significant digits. The table
    is drawn by DataTables (MIT licence), which comes with the package itables.

    Args:
        path: the HTML file; replaced if it exists, and written whole or not at all.
        title: heading of the page.
        columns: of the table from left to right, at least one; the reader may hide any, one by
            one or by their groups.
        rows: one mapping per lesion: a value for every column's key, of which "scan", "label" and
            "kind" also serve to filter and to name a lesion; "picture", if present and not None,
            is a path relative to the page, with "/" between folders, or a list of paths or None,
            one for each of `pictures`. None and NaN are shown as a dash.
        scans: one mapping per scan: "id", "status" ("finished", "failed" or "unfinished"),
            "reason", "lesions" and "seconds", the last three of which may be None.
        facts: sections of names and values, e.g. {"Settings": {"samples": 50}}.
        ranges: keys of columns of numbers to filter by a smallest and largest value.
        violins: keys of columns of numbers whose distributions are drawn, one violin per kind,
            with the units of these numbers.
        shown: keys of the columns to show at first; None for those without a group, and the
            first `SHOWN` of each group.
        pictures: what each of a lesion's pictures is called, if there are several, and what its
            colours mean, as in `lesion_figure`.
        missing: what is said of a lesion without a picture.
        level: "instance", or "class" for maps of all segmented voxels of a scan.
        regions: columns and rows of a table of what maps are like in regions of the brain, which is
            there if it has rows.
        views: where, relative to the page, the pages of scans' interactive views are when
            `jaxsal view` serves it, by scan.

    Raises:
        OutputError: if the file cannot be written.
    """
    shown = _first_columns(columns) if shown is None else shown
    troubled = [scan for scan in scans if scan["status"] != "finished"]
    counts = Counter(row["kind"] for row in rows if row.get("kind") is not None)
    paths = [row.get("picture") for row in rows]
    scales = list(dict.fromkeys(pictures.values()))
    html = fill(
        "cohort_page.html.jinja",
        title=title,
        columns=columns,
        groups=heading_groups(columns),
        texts={column.key for column in columns if _is_text(rows, column.key)},
        rows=rows,
        scan_names=list(dict.fromkeys(str(row["scan"]) for row in rows if "scan" in row)),
        kinds=[(kind, counts[kind]) for kind in kinds_in_order(counts)],
        banner=banner(rows),
        words=glossary(counts, [column.key for column in columns]),
        ranges=ranges,
        shown=shown,
        pictured=any(path is not None for path in paths),
        missing=missing,
        keys=[(scale, [n for n in pictures if pictures[n] == scale]) for scale in scales],
        distributions=[
            (column, Markup(distribution_svg(rows, column.key, violins[column.key])))
            for column in columns
            if column.key in violins
        ],
        scans=scans,
        troubled=sorted(troubled, key=lambda scan: scan["status"] != "failed"),
        finished=[scan for scan in scans if scan["status"] == "finished"],
        facts=facts,
        level=level,
        regions=regions,
        data=embedded(
            _data(
                columns,
                rows,
                shown,
                pictures=paths,
                captions=list(pictures),
                missing=missing,
                views=dict(views),
            )
        ),
        library=embedded(json.dumps(_library())),
    )
    with whole_file(path) as file:
        file.write(html.encode("utf-8"))


def _first_columns(columns: Sequence[Column]) -> set[str]:
    members: dict[str, list[str]] = {}
    for column in columns:
        members.setdefault(column.group, []).append(column.key)
    return {key for group, keys in members.items() for key in (keys[:SHOWN] if group else keys)}


def _is_text(rows: Rows, key: str) -> bool:
    return any(isinstance(row[key], str) for row in rows)


def _library() -> str:
    """DataTables in one module, whose default export it is, with the notices of its licences."""
    # Found without importing the package, which would import pandas where it is installed.
    bundle = Path(str(distribution("itables").locate_file("itables/html/dt_bundle.js")))
    return bundle.read_text(encoding="utf-8")


def _data(
    columns: Sequence[Column],
    rows: Rows,
    shown: Collection[str],
    **others: Any,
) -> str:
    """The rows as JSON, column by column: a third of what rows with keys would take."""
    described = ",".join(
        "{"
        + f'"key":{json.dumps(column.key)},"heading":{json.dumps(column.heading)},'
        + f'"group":{json.dumps(column.group)},"digits":{json.dumps(column.digits)},'
        + f'"shown":{json.dumps(column.key in shown)},'
        + _values([row[column.key] for row in rows])
        + "}"
        for column in columns
    )
    return f'{{"columns":[{described}],{json.dumps(others)[1:]}'


def _values(values: Sequence[Value]) -> str:
    """A column's values: numbers, or texts as places in a list of the distinct ones."""
    if not any(isinstance(value, str) for value in values):
        return f'"text":false,"values":[{_joined(map(_token, values))}]'
    texts = [None if value is None or value != value else str(value) for value in values]
    names = list(dict.fromkeys(text for text in texts if text is not None))
    codes = {name: str(code) for code, name in enumerate(names)}
    places = _joined("null" if text is None else codes[text] for text in texts)
    return f'"text":true,"names":{json.dumps(names)},"values":[{places}]'


def _joined(tokens: Iterable[str]) -> str:
    return ",".join(tokens)


def _token(value: Any) -> str:
    """A number in JSON, which has no infinity of its own but reads numbers too large as such."""
    if value is None or math.isnan(value):
        return "null"
    if math.isinf(value):
        return "1e999" if value > 0 else "-1e999"
    return str(int(value)) if isinstance(value, Integral) else f"{value:.6g}"
