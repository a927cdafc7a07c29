"""``jaxsal report``: a page over a cohort's results, with a picture of every lesion."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from jaxsal.cli import options as shared
from jaxsal.cli.command import Command, Given, group
from jaxsal.cli.interruption import keeping
from jaxsal.options import option
from jaxsal.wording import counted


@dataclass(frozen=True)
class _Folder:
    """Where the results are."""

    out: Path = option(metavar="DIR", positional=True, help="the folder of `jaxsal cohort run`")


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
    make_report(given["out"], given.of(Drawing))


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
    (group(_Folder), group(Drawing)),
    run,
    configurable=False,
)
