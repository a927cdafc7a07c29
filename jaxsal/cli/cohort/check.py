"""``jaxsal cohort check``: all that is wrong with a cohort's files."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from jaxsal.cli import options as shared

if TYPE_CHECKING:
    from jaxsal.inputs.problems import Problem

_PROBLEMS = 1  # exit status


def add_parser(commands: Any) -> None:
    """Adds the command's parser."""
    parser = commands.add_parser(
        "check",
        help="read every file of a cohort and list all that is wrong",
        description="Reads every file and lists all that is wrong with them, one line each on the "
        "error stream. The exit status is 1 if a scan cannot be worked with; warnings do not "
        "change it.",
    )
    shared.add_cohort(parser)
    parser.add_argument(
        "--headers-only",
        action="store_true",
        help="read no voxels: quick, but blind to damage behind headers, voxels that are not "
        "numbers, backgrounds that are not 0 and empty masks",
    )
    parser.add_argument(
        "--processes",
        type=int,
        metavar="N",
        help="how many scans are read at once; default: one per CPU core",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Runs the command; returns the exit status."""
    from jaxsal.checkpoints import load_inputs
    from jaxsal.cli.progress import ProgressBar
    from jaxsal.cohort.check import check

    model = load_inputs(options.model)
    with ProgressBar() as bar:
        bar.stage("finding scans")
        entries = shared.cohort_entries(options, model.channels)
        bar.stage("checking")
        problems = check(
            entries,
            model.channels,
            model.preprocessing,
            options.processes,
            lambda done: bar.count(done, len(entries), "scans"),
            headers_only=options.headers_only,
        )
    for problem in problems:
        print(problem, file=sys.stderr)
    print(_summary(len(entries), problems))
    return _PROBLEMS if any(problem.severity == "error" for problem in problems) else 0


def _summary(scans: int, problems: Sequence[Problem]) -> str:
    bad = {problem.id for problem in problems if problem.severity == "error"}
    doubtful = {problem.id for problem in problems} - bad
    parts = [
        f"{scans - len(bad)} ready" + (f" ({len(doubtful)} with warnings)" if doubtful else "")
    ]
    parts += [f"{len(bad)} with problems"] if bad else []
    return f"{scans} scan{'' if scans == 1 else 's'}: {', '.join(parts)}"
