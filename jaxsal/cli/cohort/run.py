"""``jaxsal cohort run``: every scan of a cohort, unattended."""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxsal.cli import options as shared
from jaxsal.cli.cohort import settings as cohort_settings
from jaxsal.errors import InputError

if TYPE_CHECKING:
    from jaxsal.cli.progress import ProgressBar
    from jaxsal.cohort.run import CohortRun, ScanResult

_FAILED_SCANS = 3  # exit status: all is done but these


def add_parser(commands: Any) -> None:
    """Adds the command's parser."""
    parser = commands.add_parser(
        "run",
        help="find and explain the lesions of every scan",
        description="Writes BIDS derivatives and one table over all lesions. Whatever ends it, the "
        "same command goes on where it ended; Ctrl-C and SIGTERM end it in good order. A scan that "
        "cannot be worked with is recorded and left out; the exit status is then 3.",
    )
    shared.add_cohort(parser)
    cohort_settings.add(parser)
    group = parser.add_argument_group("results")
    group.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder for the results"
    )
    group.add_argument(
        "--retry-failed", action="store_true", help="do those scans again that failed before"
    )
    group.add_argument(
        "--overwrite",
        action="store_true",
        help="begin anew: remove the results that earlier runs wrote into that folder",
    )
    machines = parser.add_argument_group("several machines")
    which = machines.add_mutually_exclusive_group()
    which.add_argument(
        "--shard",
        type=_shard,
        default=(1, 1),
        metavar="I/N",
        help="do the I-th of N parts of the scans only, as in a job array; all write into one "
        "folder",
    )
    which.add_argument(
        "--scheduler",
        metavar="ADDRESS",
        help="of a dask.distributed cluster, whose workers do the scans",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Runs the command; returns the exit status."""
    _check(options)
    settings = cohort_settings.settings(options)
    from jaxsal.cli.progress import ProgressBar
    from jaxsal.cohort.run import run_cohort
    from jaxsal.store.lock import Shard

    with shared.computing(options, everywhere=True), ProgressBar() as bar:
        bar.stage("starting")
        model = cohort_settings.load(options)
        cohort = run_cohort(
            options.model if options.scheduler else model,
            shared.cohort_entries(options, model.channels),
            options.out,
            prediction=shared.prediction_settings(options, model),
            settings=settings,
            shard=Shard(*options.shard),
            retry_failed=options.retry_failed,
            overwrite=options.overwrite,
            scheduler=options.scheduler,
            precision=options.precision,
            on_scan=lambda entry, progress: bar.detail(
                f"{entry.id}: {progress.lesions_done}/{progress.lesions} maps"
            ),
        )
        with cohort:
            counts = _follow(cohort, bar)
    print(_summary(cohort, counts, options.out))
    return _FAILED_SCANS if counts["failed"] else 0


def _check(options: argparse.Namespace) -> None:
    if options.scheduler is None:
        return
    for flag, given in (("--device", options.device), ("--rematerialise", options.rematerialise)):
        if given:
            raise InputError(f"{flag} is for this machine; workers of a scheduler do not heed it")


def _follow(cohort: CohortRun, bar: ProgressBar) -> Counter[str]:
    """Shows the results as they come, and counts them."""
    counts: Counter[str] = Counter()
    bar.stage("cohort")
    try:
        for result in cohort:
            while cohort.notes:
                bar.say(cohort.notes.pop(0))
            counts[result.status] += 1
            counts["new"] += result.is_new
            counts["lesions"] += len(result.rows)
            if result.is_new or result.status == "failed":
                bar.say(_line(result))
            bar.count(counts["finished"] + counts["failed"], len(cohort.entries), "scans")
    except KeyboardInterrupt as interrupt:
        done = f"{counts['finished']} of {len(cohort.entries)} scans are finished"
        message = f"interrupted; {done}, the same command goes on from there"
        raise type(interrupt)(message) from interrupt
    return counts


def _line(result: ScanResult) -> str:
    if result.status == "failed" and not result.is_new:
        return f"{result.id} failed before: {' '.join(result.reason.split())}"
    if result.status == "failed":
        return f"{result.id} FAILED: {' '.join(result.reason.split())}"
    lesions = f"{len(result.rows)} lesion{'' if len(result.rows) == 1 else 's'}"
    noted = f"; {' '.join(result.reason.split())}" if result.reason else ""
    return f"{result.id}: {lesions}, {result.seconds:.1f} s{noted}"


def _summary(cohort: CohortRun, counts: Counter[str], out: Path) -> str:
    scans = len(cohort.entries)
    parts = [
        f"{scans} scan{'' if scans == 1 else 's'}, {counts['new']} of them now: "
        f"{counts['finished']} finished"
    ]
    if counts["failed"]:
        parts.append(
            f"{counts['failed']} failed, see {out / 'status.tsv'}; mend them, then --retry-failed"
        )
    parts.append(f"{counts['lesions']} lesions explained")
    if cohort.busy_share is not None and counts["new"]:
        parts.append(f"devices computed {100 * cohort.busy_share:.0f} % of the time")
    return f"{'; '.join(parts)}; results in {out}"


def _shard(text: str) -> tuple[int, int]:
    part, _, parts = text.partition("/")
    try:
        return int(part), int(parts)
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"must be the number of a part and how many there are, such as 1/8; got {text!r}"
        ) from error
