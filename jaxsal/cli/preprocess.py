"""``jaxsal preprocess``: scans registered, stripped of skulls and bias fields, resampled."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jaxsal.cli import options as shared
from jaxsal.cli.command import Command, Given, group
from jaxsal.cli.interruption import keeping, scans_finished
from jaxsal.errors import InputError
from jaxsal.options import option
from jaxsal.preparation.settings import PreparationSettings
from jaxsal.wording import counted, one_line

if TYPE_CHECKING:
    from jaxsal.store.records import ScanRecord

_FAILED_SCANS = 3  # exit status: all is done but these


@dataclass(frozen=True)
class _Steps:
    """What is done, and on how many processors.

    Attributes:
        skip_registration: the images of a scan lie on one grid already.
        skip_bias: leave bias fields as they are.
    """

    skip_registration: bool = option(False)
    skip_bias: bool = option(False)
    processes: int | None = shared.processes_option("prepared")


def run(given: Given) -> int:
    """Runs the command; returns the exit status."""
    from jaxsal.cli.progress import ProgressBar
    from jaxsal.preparation.run import prepare_cohort

    settings, results = _settings(given), given.of(shared.Results)
    cohort, out = given["cohort"], results.out
    if out.resolve() in (cohort.resolve(), cohort.resolve().parent):  # not to be written over
        raise InputError(f"{cohort} is what is to be prepared: give another --out")
    counts: Counter[str] = Counter()
    with ProgressBar() as bar:
        bar.stage("finding scans")
        entries = shared.cohort_entries(given, settings.channels, "--channels")
        bar.stage("preparing")

        def show(record: ScanRecord, is_new: bool) -> None:
            counts[record.status] += 1
            counts["new"] += is_new
            if is_new:
                bar.say(_line(record))
            bar.count(counts["finished"] + counts["failed"], len(entries), "scans")

        def kept() -> str:
            return scans_finished(counts["finished"], len(entries), overwrite=results.overwrite)

        with keeping(kept):
            processes = given.get("processes")
            prepare_cohort(entries, out, settings, processes, show, overwrite=results.overwrite)
    print(_summary(counts, out))
    return _FAILED_SCANS if counts["failed"] else 0


def _settings(given: Given) -> PreparationSettings:
    fixed, channels = PreparationSettings.fixed, given.get("channels")
    if channels is not None and "fixed" not in given and fixed not in channels:
        raise InputError(
            f"the default of --fixed, {fixed}, is not among --channels {' '.join(channels)}: name "
            "the image to register to with --fixed"
        )
    left_out = given.of(_Steps)
    return given.of(
        PreparationSettings,
        register=not left_out.skip_registration,
        correct_bias=not left_out.skip_bias,
    )


def _line(record: ScanRecord) -> str:
    reason = one_line(record.reason)
    if record.status == "failed":
        return f"{record.id} FAILED: {reason}"
    return f"{record.id}: {record.seconds:.1f} s{f'; {reason}' if reason else ''}"


def _summary(counts: Counter[str], out: Path) -> str:
    scans = counts["finished"] + counts["failed"]
    parts = [
        f"{counted(scans, 'scan')}, {counts['new']} of them now: {counts['finished']} finished"
    ]
    if counts["failed"]:
        parts.append(f"{counts['failed']} failed, see {out / 'failed.tsv'}")
    if counts["finished"]:
        parts.append(f"look at the pictures in {out}/sub-*/figures")
    return f"{'; '.join(parts)}; the prepared cohort is {out / 'cohort.tsv'}"


COMMAND = Command(
    "Registers the images of each scan to one of them by elastix, brings them to another voxel "
    "size, sets all but the brain to 0, both if asked to, and removes bias fields by N4, with a "
    "picture of each scan to check it by. DIR/cohort.tsv lists the results and is a COHORT "
    "for the other commands. Whatever ends it, the same command, without --overwrite, goes on "
    "where it ended. Scans that fail are listed in DIR/failed.tsv and skipped; the exit status is "
    "then 3.",
    (shared.COHORT, shared.RESULTS, group(PreparationSettings), group(_Steps)),
    run,
)
