"""``jaxsal report``: a page over a cohort's results, and one of readers' ratings."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from jaxsal.cli import options as shared
from jaxsal.cli.command import Command, Given, group
from jaxsal.cli.interruption import keeping
from jaxsal.errors import InputError
from jaxsal.options import option
from jaxsal.wording import counted

_RATINGS = "ratings.html"


@dataclass(frozen=True)
class _Folder:
    """Where the results are."""

    out: Path = option(metavar="DIR", positional=True, help="the folder of `jaxsal cohort run`")


@dataclass(frozen=True)
class _Rated:
    """What readers said.

    Attributes:
        ratings: tables of one or two readers, as the interactive view gives them: writes
            ratings.html with the ratings and, of two, how they agree (Cohen's κ), in place of an
            earlier one; the tables stay as they are. DIR may be a folder of `jaxsal explain` then.
    """

    ratings: tuple[Path, ...] = option((), "TSV")


@dataclass(frozen=True)
class Drawing:
    """The page.

    Attributes:
        pictures: draw a picture of every lesion whose maps were kept ("all"), or no further ones
            ("none").
        view: write copies of the scans' images, cut and rounded, for `jaxsal view`.
    """

    pictures: str = option("all", choices=("all", "none"))
    view: bool = option(True, help="write no copies of the scans' images for `jaxsal view`")
    processes: int | None = shared.processes_option("drawn")


def run(given: Given) -> None:
    """Runs the command."""
    out, ratings = given["out"], given.of(_Rated).ratings
    if not ratings:
        return make_report(out, given.of(Drawing))
    said = _ratings_page(out, ratings)
    if not _is_of_one_scan(out):
        make_report(out, given.of(Drawing))
    print(f"{said}\nopen {out / _RATINGS}")


def _is_of_one_scan(out: Path) -> bool:
    from jaxsal.cohort.storage.folder import CohortFolder
    from jaxsal.store.output_folder import holds_results

    return not CohortFolder(out).scans() and holds_results(out)


def _ratings_page(out: Path, files: Sequence[Path]) -> str:
    """Writes the page; returns what it says first."""
    from jaxsal.report.ratings import ratings_page, read_ratings
    from jaxsal.store.files import whole_file
    from jaxsal.store.output_folder import write_later

    if len(files) > 2:
        raise InputError(f"--ratings takes the tables of one or two readers, got {len(files)}")
    page = out / _RATINGS
    if page.resolve() in [path.resolve() for path in files]:
        raise InputError(f"{page} would be replaced by the page of its ratings: rename the table")
    known = dict(_lesions(out))
    ratings = [read_ratings(path, known) for path in files]
    readers = list(zip(_names(files), ratings, strict=True))
    html, said = ratings_page(out.resolve().name, readers)
    if _is_of_one_scan(out):
        write_later(out, _RATINGS, html.encode("utf-8"))
    else:
        with whole_file(page) as file:
            file.write(html.encode("utf-8"))
    return said


def _names(files: Sequence[Path]) -> list[str]:
    """What readers are called: by their tables, and no path of this machine, as pages travel."""
    numbers = [f"reader {number}" for number in range(1, len(files) + 1)]
    stems = [path.stem for path in files]
    folders = [f"{path.resolve().parent.name}/{path.stem}" for path in files]
    return next((n for n in (stems, folders) if len(set(n)) == len(files)), numbers)


def _lesions(out: Path) -> Iterator[tuple[tuple[str, int], str]]:
    """The scan, label and kind of each explained lesion; a single scan has no name."""
    from jaxsal.cohort.storage.folder import CohortFolder

    if _is_of_one_scan(out):
        for label, kind in _labels(out / "instances.tsv"):
            yield ("", label), kind
        return
    folder = CohortFolder(out)
    folder.recorded()
    for record in folder.records():
        for row in record.rows:
            yield (record.id, int(row["label"])), row.get("kind") or ""


def _labels(path: Path) -> list[tuple[int, str]]:
    """The labels and kinds in the table of a scan's lesions."""
    from jaxsal.store.files import require_content

    require_content(path)
    try:
        with path.open(encoding="utf-8") as table:
            rows = csv.DictReader(table, delimiter="\t")
            return [(int(row["label"]), row.get("kind") or "") for row in rows]
    except (OSError, ValueError, TypeError, KeyError, csv.Error) as error:
        raise InputError(f"{path} cannot be read as a table of lesions: {error!r}") from error


def make_report(out: Path, options: Drawing) -> None:
    """Writes the page of a folder, and prints where it is."""
    from jaxsal.cli.progress import ProgressBar
    from jaxsal.cohort.report import write_report

    stay = "pictures that are drawn stay, the same command draws the others"
    with keeping(lambda: stay), ProgressBar() as bar:
        bar.stage("drawing")
        report = write_report(
            out,
            pictures=options.pictures == "all",
            view=options.view,
            processes=options.processes,
            on_scan=lambda done, scans: bar.count(done, scans, "scans"),
        )
    for scan, problem in report.problems.items():
        print(f"jaxsal report: warning: {scan}: {problem}", file=sys.stderr)
    scans = counted(sum(report.statuses.values()), "scan")
    parts = [f"{number} {status}" for status, number in sorted(report.statuses.items())]
    lesions, drawn = counted(report.lesions, "lesion"), counted(report.pictures, "picture")
    print(f"{lesions} in {scans} ({', '.join(parts)}); {drawn} drawn; open {report.path}")


COMMAND = Command(
    "Writes report.html into the folder of a cohort's run, which need not have ended: a table of "
    "all lesions, a picture of each, distributions, and how it all came about. Needs no network "
    "and no accelerator. Pictures that are there are not drawn again.",
    (group(_Folder), group(Drawing), group(_Rated, "ratings")),
    run,
    configurable=False,
)
