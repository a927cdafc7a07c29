"""``jaxsal cohort run``: every scan of a cohort, unattended."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jaxsal.cli import options as shared
from jaxsal.cli.command import Command, Given, group
from jaxsal.cli.interruption import keeping, scans_finished
from jaxsal.cli.methods import cohort_settings, of_cohort
from jaxsal.errors import InputError
from jaxsal.options import option
from jaxsal.wording import counted, one_line

if TYPE_CHECKING:
    from jaxsal.cli.progress import ProgressBar
    from jaxsal.cohort.run import CohortRun, ScanResult

_FAILED_SCANS = 3  # exit status: all is done but these


def _shard(text: str) -> tuple[int, int]:
    part, _, parts = text.partition("/")
    try:
        return int(part), int(parts)
    except ValueError as error:
        raise ValueError(
            "must be the number of a part and how many there are, such as 1/8"
        ) from error


@dataclass(frozen=True)
class _Again:
    """Scans that failed."""

    retry_failed: bool = option(False, help="do those scans again that failed before")


@dataclass(frozen=True)
class _Machines:
    """Several machines.

    Attributes:
        shard: do the I-th of N parts of the scans only, as in a job array; all write into one
            folder.
        scheduler: address of a dask.distributed cluster, whose workers do the scans.
    """

    shard: tuple[int, int] = option((1, 1), "I/N", parse=_shard, shown="1/1", exclusive="machines")
    scheduler: str | None = option(None, "ADDRESS", exclusive="machines")


def run(given: Given) -> int:
    """Runs the command; returns the exit status."""
    results, machines = given.of(shared.Results), given.of(_Machines)
    if machines.scheduler and given.get("device"):
        raise InputError("--device is for this machine; workers of a scheduler do not heed it")
    settings = cohort_settings(given)
    from jaxsal.cli.progress import ProgressBar
    from jaxsal.cohort.run import run_cohort
    from jaxsal.store.lock import Shard

    with shared.computing(given, everywhere=True), ProgressBar() as bar:
        bar.stage("starting")
        model = shared.load_model(given)
        cohort = run_cohort(
            model,
            shared.cohort_entries(given, model.channels),
            results.out,
            prediction=shared.prediction_settings(given, model),
            settings=settings,
            shard=Shard(*machines.shard),
            retry_failed=given.of(_Again).retry_failed,
            overwrite=results.overwrite,
            scheduler=machines.scheduler,
            model_folder=given["model"],
            on_scan=lambda entry, progress: bar.detail(
                f"{entry.id}: {progress.lesions_done}/{progress.lesions} maps"
            ),
        )
        with cohort:
            counts = _follow(cohort, bar, results.overwrite)
    print(_summary(cohort, counts, results.out))
    return _FAILED_SCANS if counts["failed"] else 0


def _follow(cohort: CohortRun, bar: ProgressBar, overwrite: bool) -> Counter[str]:
    """Shows the results as they come, and counts them."""
    counts: Counter[str] = Counter()
    bar.stage("cohort")

    def kept() -> str:
        return scans_finished(counts["finished"], len(cohort.entries), overwrite=overwrite)

    with keeping(kept):
        for result in cohort:
            while cohort.notes:
                bar.say(cohort.notes.pop(0))
            counts[result.status] += 1
            counts["new"] += result.is_new
            counts["lesions"] += len(result.rows)
            if result.is_new or result.status == "failed":
                bar.say(_line(result))
            bar.count(counts["finished"] + counts["failed"], len(cohort.entries), "scans")
    return counts


def _line(result: ScanResult) -> str:
    if result.status == "failed" and not result.is_new:
        return f"{result.id} failed before: {one_line(result.reason)}"
    if result.status == "failed":
        return f"{result.id} FAILED: {one_line(result.reason)}"
    noted = f"; {one_line(result.reason)}" if result.reason else ""
    return f"{result.id}: {counted(len(result.rows), 'lesion')}, {result.seconds:.1f} s{noted}"


def _summary(cohort: CohortRun, counts: Counter[str], out: Path) -> str:
    scans = len(cohort.entries)
    parts = [
        f"{counted(scans, 'scan')}, {counts['new']} of them now: {counts['finished']} finished"
    ]
    if counts["failed"]:
        parts.append(
            f"{counts['failed']} failed, see {out / 'status.tsv'}; mend them, then --retry-failed"
        )
    parts.append(f"{counted(counts['lesions'], 'lesion')} explained")
    if cohort.busy_share is not None and counts["new"]:
        parts.append(f"devices computed {100 * cohort.busy_share:.0f} % of the time")
    return f"{'; '.join(parts)}; results in {out}"


COMMAND = Command(
    "Writes BIDS derivatives and one table over all lesions. Whatever ends it, the same command, "
    "without --overwrite, goes on where it ended; Ctrl-C and SIGTERM end it in good order. Scans "
    "that fail are reported and skipped; the exit status is then 3.",
    lambda: (
        *(shared.MODEL, shared.COHORT, shared.RESULTS, group(_Again)),
        *(*of_cohort(), shared.UNCERTAINTY, group(_Machines, "several machines")),
    ),
    run,
)
