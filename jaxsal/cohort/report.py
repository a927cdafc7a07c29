"""The page over a cohort's folder, also of an unfinished run; needs neither model nor JAX."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from jaxsal.approximated import is_approximated
from jaxsal.cohort.columns import Outline
from jaxsal.cohort.pictures import Drawn, draw_pictures, missing_pictures
from jaxsal.cohort.region_summary import SUMMARY_COLUMNS, RegionSummary
from jaxsal.cohort.storage.folder import CohortFolder
from jaxsal.cohort.storage.names import Names
from jaxsal.cohort.view import addresses, missing_images, write_images
from jaxsal.progress import OnPart
from jaxsal.report.cohort_page import SHOWN, write_cohort_page
from jaxsal.store.records import ScanRecord
from jaxsal.tables import Column
from jaxsal.wording import duration

_FIRST = ("scan", "label", "kind", "volume_mm3", "region")  # columns that are shown at first
_NO_MAPS = "The run kept no maps (output “table”), of which a picture could be made."
_NOT_DRAWN = "No picture was made of this lesion; the list of scans says why, if it was tried."

Row = dict[str, Any]


@dataclass(frozen=True)
class Report:
    """What was written.

    Attributes:
        path: of the page.
        statuses: how many scans are "finished", "failed" and "unfinished".
        lesions: on the page.
        pictures: that were drawn now.
        problems: why others were not, by scan.
    """

    path: Path
    statuses: Mapping[str, int]
    lesions: int
    pictures: int
    problems: Mapping[str, str]


def write_report(
    out: Path,
    *,
    pictures: bool = True,
    view: bool = True,
    processes: int | None = None,
    on_scan: OnPart = lambda done, scans: None,
) -> Report:
    """Writes ``report.html`` into a cohort's folder, and the pictures that are not there yet.

    Args:
        out: the folder; runs may be at work in it.
        pictures: draw the pictures; else those are shown that are there.
        view: write the scans' images for `jaxsal view`, where they are not there yet.
        processes: how many draw at once, each a scan; None: one per CPU core.
        on_scan: called with the number of scans drawn, and of all.

    Raises:
        InputError: it is no such folder, or the number of processes is not positive.
        OutputError: it cannot be written.
    """
    folder = CohortFolder(out)
    run, ids = folder.run(), folder.scans()
    outline = Outline.read(run)
    has_maps = run["identity"]["settings"]["output"] != "table"
    drawn: list[Drawn] = []
    if pictures and has_maps:
        records = (folder.record(stem) for stem in ids)
        channels = run["identity"]["model"]["channels"]
        wanted = [missing_pictures(out, r, outline.methods, channels) for r in records if r]
        drawn = draw_pictures(out, [scan for scan in wanted if scan], processes, on_scan)
    problems = {scan.id: scan.problem for scan in drawn if scan.problem}
    channels = run["identity"]["model"]["channels"]
    if view and has_maps:
        lacking = [missing_images(out, r, channels) for r in folder.records()]
        unseen = write_images(out, [scan for scan in lacking if scan], processes)
        problems = unseen | problems  # of one scan the pictures' reason is the same
    content = _read(folder, ids, outline, problems, has_maps)
    peaks = {key: method.units for method in outline.methods for key in method.peaks}
    write_cohort_page(
        out / "report.html",
        f"Saliency of lesions: {out.resolve().name}",
        outline.columns,
        content.rows,
        content.scans,
        run_facts(run, content.ran),
        ranges=["volume_mm3", *peaks],
        violins=peaks,
        shown=_shown(outline.columns, content.rows),
        pictures={method.name: method.scale for method in outline.methods},
        missing=_NOT_DRAWN if has_maps else _NO_MAPS,
        regions=(SUMMARY_COLUMNS, content.regions.rows()),
        views=addresses(folder, channels) if has_maps else {},
    )
    statuses = Counter(scan["status"] for scan in content.scans)
    count = sum(scan.pictures for scan in drawn)
    return Report(out / "report.html", statuses, len(content.rows), count, problems)


@dataclass
class _Content:
    """The content of the page: rows of lesions and of scans, how they were computed, regions."""

    rows: list[Row] = field(default_factory=list)
    scans: list[Row] = field(default_factory=list)
    ran: list[Row] = field(default_factory=list)
    regions: RegionSummary = field(default_factory=RegionSummary)


def _read(
    folder: CohortFolder,
    ids: Mapping[str, str],
    outline: Outline,
    problems: Mapping[str, str],
    has_maps: bool,
) -> _Content:
    begun = folder.unfinished()
    content = _Content()
    for stem, name in ids.items():
        record = folder.record(stem)
        scan: Row = {"id": name, "status": "unfinished", "lesions": None, "seconds": None}
        if record is None:
            scan["reason"] = f"begun, portions recorded: {begun[stem]}" if stem in begun else None
        elif record.status == "failed":
            scan |= {"status": "failed", "reason": record.reason}
        else:
            figures: Row = {"lesions": len(record.rows), "seconds": record.seconds}
            reasons = filter(None, [record.reason, problems.get(name)])
            scan |= {"status": "finished", "reason": "; ".join(reasons) or None, **figures}
            content.ran.append({**record.ran, "seconds": record.seconds})
            content.regions.add(record.rows)
            content.rows += _rows(folder.root, record, outline, has_maps)
        if scan.get("reason") is not None:
            scan["reason"] = _relative(folder.root, scan["reason"])
        content.scans.append(scan)
    return content


def _relative(root: Path, text: str) -> str:
    """A text with the folder's files by their names in it: the page is passed on."""
    for place in {root.absolute(), root.resolve()}:
        text = text.replace(f"{place}{os.sep}", "")
    return text


def _rows(root: Path, record: ScanRecord, outline: Outline, has_maps: bool) -> Iterator[Row]:
    """The rows of a scan's lesions, with the pictures that there are."""
    names = Names(record.stem)
    for lesion in record.rows:
        row = {column.key: lesion.get(column.key) for column in outline.columns}
        if has_maps:
            paths = [names.picture(lesion["label"], method.name) for method in outline.methods]
            there = [path if (root / path).exists() else None for path in paths]
            row["picture"] = there if any(there) and len(there) > 1 else there[0]
        yield row


def _shown(columns: Sequence[Column], rows: Sequence[Row]) -> set[str]:
    """Columns that are shown at first: subject, session and `approximated` only where they matter.

    Subject and session do if no scan's name holds them, `approximated` if some map is.
    """
    shown = set(_FIRST)
    if any(map(is_approximated, rows)):
        shown.add("approximated")
    shown |= {
        key
        for key in ("subject", "session")
        if any(row[key] and str(row[key]) not in str(row["scan"]) for row in rows)
    }
    counted: Counter[str] = Counter()
    for column in columns:
        counted[column.group] += 1
        if column.group and counted[column.group] <= SHOWN:
            shown.add(column.key)
    return shown


def run_facts(
    run: Mapping[str, Any], ran: Sequence[Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """The run, section by section.

    Args:
        run: the content of ``run.json``.
        ran: device, software and seconds of each finished scan.
    """
    identity = run["identity"]
    model, settings = dict(identity["model"]), dict(identity["settings"])
    architecture, saliency = model.pop("architecture"), settings.pop("saliency")
    preprocessing = model.pop("preprocessing", None) or {}
    devices = _counted(ran, "device") or run.get("device")  # a cluster's: with the first scan
    now = datetime.now().astimezone()
    return {
        "Run": {
            "report written": f"{now:%Y-%m-%d %H:%M}",
            **({"devices": devices} if devices else {}),
            "computing": duration(sum(scan["seconds"] for scan in ran)),
            **{name: _counted(ran, name) or run[name] for name in ("jaxsal", "jax", "python")},
            "libraries": run["libraries"],
            **({"accelerator": run["accelerator"]} if "accelerator" in run else {}),
        },
        "Model": _readable({**model, "precision": identity["precision"]}),
        "Architecture": _readable(architecture),
        **({"Preprocessing": _readable(preprocessing)} if preprocessing else {}),
        "Prediction": _readable(identity["prediction"]),
        "Saliency": _readable(settings),
        **{f"Saliency: {name}": _readable(method) for name, method in saliency.items()},
    }


def _counted(ran: Sequence[Mapping[str, Any]], name: str) -> str:
    """What scans were computed with, and how many scans if it differs."""
    counts = Counter(str(scan[name]) for scan in ran if name in scan)
    if len(counts) == 1:
        return next(iter(counts))
    return ", ".join(
        f"{what} ({scans} of {counts.total()} scans)" for what, scans in counts.most_common()
    )


def _readable(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings without those that are not in use."""
    return {
        name.replace("_", " "): f"{value:g}" if isinstance(value, float) else value
        for name, value in settings.items()
        if value is not None and value != {}
    }
