"""``jaxsal report``: a page over a cohort's results, with a picture of every lesion."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxsal.cohort.reporting.report import Report


def add_parser(commands: Any) -> None:
    """Adds the command's parser."""
    parser = commands.add_parser(
        "report",
        help="make a page of a cohort's results, to read in a browser",
        description="Writes report.html into the folder of a cohort's run, which need not have "
        "ended: a table of all lesions, a picture of each, distributions, and how it all came "
        "about. Needs no network and no accelerator. Pictures that are there are not drawn again.",
    )
    parser.add_argument("out", type=Path, metavar="DIR", help="the folder of `jaxsal cohort run`")
    parser.add_argument(
        "--pictures",
        choices=("all", "none"),
        default="all",
        help="draw a picture of every lesion whose maps were kept, or no further ones; default: "
        "%(default)s",
    )
    parser.add_argument(
        "--processes",
        type=int,
        metavar="N",
        help="how many scans are drawn at once; default: one per CPU core",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Runs the command."""
    from jaxsal.cli.progress import ProgressBar
    from jaxsal.cohort.reporting.report import write_report

    try:
        with ProgressBar() as bar:
            bar.stage("drawing")
            report = write_report(
                options.out,
                pictures=options.pictures == "all",
                processes=options.processes,
                on_scan=lambda done, scans: bar.count(done, scans, "scans"),
            )
    except KeyboardInterrupt as interrupt:
        message = "interrupted; pictures that are drawn stay, the same command draws the others"
        raise type(interrupt)(message) from interrupt
    for scan, problem in report.problems.items():
        print(f"jaxsal report: warning: {scan}: {problem}", file=sys.stderr)
    print(_summary(report))


def _summary(report: Report) -> str:
    scans = sum(report.statuses.values())
    parts = [f"{number} {status}" for status, number in sorted(report.statuses.items())]
    lesions = f"{report.lesions} lesion{'' if report.lesions == 1 else 's'}"
    pictures = f"{report.pictures} picture{'' if report.pictures == 1 else 's'} drawn"
    of = f"{scans} scan{'' if scans == 1 else 's'} ({', '.join(parts)})"
    return f"{lesions} in {of}; {pictures}; open {report.path}"
