"""``jaxsal cohort status``: how far a cohort's folder is."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxsal.cli.command import Command, Given, group
from jaxsal.options import option
from jaxsal.wording import counted, duration, one_line

if TYPE_CHECKING:
    from jaxsal.cohort.status import CohortStatus

_DAMAGED = 1  # exit status
_MOST_SHOWN = 20


@dataclass(frozen=True)
class _Status:
    """What is shown.

    Attributes:
        out: the folder of `jaxsal cohort run`.
        verify: read every result and compare it with its recorded checksum; the exit status is 1
            if one is missing or differs.
        json: print all of it as JSON.
    """

    out: Path = option(metavar="DIR", positional=True)
    verify: bool = option(False)
    json: bool = option(False)


def run(given: Given) -> int:
    """Runs the command; returns the exit status."""
    from jaxsal.cohort.status import cohort_status

    asked = given.of(_Status)
    status = cohort_status(asked.out, verify=asked.verify)
    if asked.json:
        print(json.dumps(asdict(status), indent=2))
    else:
        print("\n".join(_lines(status)))
    return _DAMAGED if status.damaged else 0


def _lines(status: CohortStatus) -> list[str]:
    failed = len(status.failed)
    lines = [
        f"{counted(status.scans, 'scan')}: {status.finished} finished "
        f"({counted(status.lesions, 'lesion')}), "
        f"{failed} failed, {status.left} left"
    ]
    if status.others:
        lines.append(f"results of {counted(status.others, 'scan')} not of the cohort any more")
    lines += [f"shard {shard}: {owner}" for shard, owner in status.runs.items()]
    lines += [] if status.runs else ["no run is at work"]
    if status.seconds_left is not None:
        lines.append(f"about {duration(status.seconds_left)} left")
    lines += _shown(
        f"begun: {stem}, {counted(portions, 'portion')} recorded"
        for stem, portions in status.begun.items()
    )
    lines += _shown(f"failed: {id}: {one_line(reason)}" for id, reason in status.failed.items())
    if status.damaged is not None:
        lines += _shown(f"damaged: {name}" for name in status.damaged)
        lines += [] if status.damaged else ["all results are as they were written"]
    return lines


def _shown(lines: Any) -> list[str]:
    lines = list(lines)
    more = len(lines) - _MOST_SHOWN
    return lines[:_MOST_SHOWN] + ([f"... and {more} more, see --json"] if more > 0 else [])


COMMAND = Command(
    "Prints how many scans are finished, failed or begun, and who is at work.",
    (group(_Status),),
    run,
    configurable=False,
)
