"""``jaxsal cohort status``: how far a cohort's folder is."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxsal.wording import duration

if TYPE_CHECKING:
    from jaxsal.cohort.status import CohortStatus

_DAMAGED = 1  # exit status
_MOST_SHOWN = 20


def add_parser(commands: Any) -> None:
    """Adds the command's parser."""
    parser = commands.add_parser(
        "status",
        help="show how far a run is, also while it runs",
        description="Prints how many scans are finished, failed or begun, and who is at work.",
    )
    parser.add_argument("out", type=Path, metavar="DIR", help="the folder of `jaxsal cohort run`")
    parser.add_argument(
        "--verify",
        action="store_true",
        help="read every result and compare it with its recorded checksum; the exit status is 1 if "
        "one is missing or differs",
    )
    parser.add_argument("--json", action="store_true", help="print all of it as JSON")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Runs the command; returns the exit status."""
    from jaxsal.cohort.status import cohort_status

    status = cohort_status(options.out, verify=options.verify)
    if options.json:
        print(json.dumps(asdict(status), indent=2))
    else:
        print("\n".join(_lines(status)))
    return _DAMAGED if status.damaged else 0


def _lines(status: CohortStatus) -> list[str]:
    failed = len(status.failed)
    lines = [
        f"{status.scans} scans: {status.finished} finished ({status.lesions} lesions), "
        f"{failed} failed, {status.left} left"
    ]
    if status.others:
        lines.append(f"results of {status.others} scans that are not of the cohort any more")
    lines += [f"shard {shard}: {owner}" for shard, owner in status.runs.items()]
    lines += [] if status.runs else ["no run is at work"]
    if status.seconds_left is not None:
        lines.append(f"about {duration(status.seconds_left)} left")
    lines += _shown(
        f"begun: {stem}, {portions} portion{'' if portions == 1 else 's'} recorded"
        for stem, portions in status.begun.items()
    )
    lines += _shown(
        f"failed: {id}: {' '.join(reason.split())}" for id, reason in status.failed.items()
    )
    if status.damaged is not None:
        lines += _shown(f"damaged: {name}" for name in status.damaged)
        lines += [] if status.damaged else ["all results are as they were written"]
    return lines


def _shown(lines: Any) -> list[str]:
    lines = list(lines)
    more = len(lines) - _MOST_SHOWN
    return lines[:_MOST_SHOWN] + ([f"... and {more} more, see --json"] if more > 0 else [])
