"""``jaxsal cohort run``: every scan of a cohort, unattended."""

from __future__ import annotations

from dataclasses import dataclass

from jaxsal.cli import options as shared
from jaxsal.cli.command import Command, Given, group
from jaxsal.cli.following import FAILED_SCANS, follow, summary
from jaxsal.cli.methods import cohort_settings, of_cohort
from jaxsal.errors import InputError
from jaxsal.options import option


def _shard(text: str) -> tuple[int, int]:
    part, _, parts = text.partition("/")
    try:
        return int(part), int(parts)
    except ValueError as error:
        raise ValueError(
            "must be the number of a part and how many there are, such as 1/8"
        ) from error


@dataclass(frozen=True)
class Again:
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
            retry_failed=given.of(Again).retry_failed,
            overwrite=results.overwrite,
            scheduler=machines.scheduler,
            model_folder=given["model"],
            on_scan=lambda entry, progress: bar.detail(
                f"{entry.id}: {progress.lesions_done}/{progress.lesions} maps"
            ),
        )
        scans = len(cohort.entries)
        counts = follow([cohort], scans, bar, overwrite=results.overwrite)
    print(summary(counts, scans, results.out, cohort.busy_share))
    return FAILED_SCANS if counts["failed"] else 0


COMMAND = Command(
    "Writes BIDS derivatives and one table over all lesions. Whatever ends it, the same command, "
    "without --overwrite, goes on where it ended; Ctrl-C and SIGTERM end it in good order. Scans "
    "that fail are reported and skipped; the exit status is then 3.",
    lambda: (
        *(shared.MODEL, shared.COHORT, shared.RESULTS, group(Again)),
        *(*of_cohort(), shared.UNCERTAINTY, group(_Machines, "several machines")),
    ),
    run,
)
