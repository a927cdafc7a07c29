"""``jaxsal cohort check``: all that is wrong with a cohort's files."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from jaxsal.cli import options as shared
from jaxsal.cli.command import Command, Given, group
from jaxsal.options import option
from jaxsal.wording import counted

if TYPE_CHECKING:
    from jaxsal.inputs.problems import Problem
    from jaxsal.preprocessing import Preprocessing

_PROBLEMS = 1  # exit status
_RESAMPLE = group(shared.Resample, only=("allow_upsampling", "any_voxel_size"))


@dataclass(frozen=True)
class _Check:
    """How thoroughly.

    Attributes:
        headers_only: read no voxels: quick, but blind to damage behind headers, voxels that are not
            numbers, backgrounds that are not 0 and empty masks.
    """

    headers_only: bool = option(False)
    processes: int | None = shared.processes_option("read")


def run(given: Given) -> int:
    """Runs the command; returns the exit status."""
    from jaxsal.checkpoints import load_inputs
    from jaxsal.cli.progress import ProgressBar
    from jaxsal.cohort.check import check

    asked = given.of(_Check)
    model = load_inputs(given["model"])
    with ProgressBar() as bar:
        bar.stage("finding scans")
        entries = shared.cohort_entries(given, model.channels)
        bar.stage("checking")
        problems = check(
            entries,
            model.channels,
            _permitting(model.preprocessing, given),
            asked.processes,
            lambda done: bar.count(done, len(entries), "scans"),
            headers_only=asked.headers_only,
        )
    for problem in problems:
        print(problem, file=sys.stderr)
    print(_summary(len(entries), problems))
    return _PROBLEMS if any(problem.severity == "error" for problem in problems) else 0


def _permitting(known: Preprocessing | None, given: Given) -> Preprocessing | None:
    """The model's preprocessing, for the scans that the run is going to take."""
    from jaxsal.preprocessing import Preprocessing

    asked = given.of(shared.Resample)
    if asked.any_voxel_size:
        known = replace(known or Preprocessing(), any_voxel_size=True)
    return replace(known, permit="any") if known and asked.allow_upsampling else known


def _summary(scans: int, problems: Sequence[Problem]) -> str:
    bad = {problem.id for problem in problems if problem.severity == "error"}
    doubtful = {problem.id for problem in problems} - bad
    parts = [
        f"{scans - len(bad)} ready" + (f" ({len(doubtful)} with warnings)" if doubtful else "")
    ]
    parts += [f"{len(bad)} with problems"] if bad else []
    return f"{counted(scans, 'scan')}: {', '.join(parts)}"


COMMAND = Command(
    "Reads every file and lists all that is wrong with them, one line each on the error stream. "
    "The exit status is 1 if a scan cannot be worked with; warnings do not change it.",
    (shared.MODEL, shared.COHORT, group(_Check), _RESAMPLE),
    run,
    configurable=False,
)
