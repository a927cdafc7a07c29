"""Runs over a cohort, followed: a line per scan, and a summary."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from jaxsal.cli.interruption import keeping, scans_finished
from jaxsal.wording import counted, one_line

if TYPE_CHECKING:
    from jaxsal.cli.progress import ProgressBar
    from jaxsal.cohort.run import CohortRun, ScanResult

FAILED_SCANS = 3  # exit status: all is done but these


def follow(
    runs: Iterable[CohortRun], scans: int, bar: ProgressBar, *, overwrite: bool
) -> Counter[str]:
    """Shows the results as they come, and counts them.

    Args:
        runs: one after the other.
        scans: of all of them.
        bar: to show them by.
        overwrite: whether the command was given that.

    Returns:
        How many scans are "finished", "failed" and "new", and how many "lesions" there are.
    """
    counts: Counter[str] = Counter()
    bar.stage("cohort")

    def kept() -> str:
        return scans_finished(counts["finished"], scans, overwrite=overwrite)

    with keeping(kept):
        for run in runs:
            with run:
                _follow(run, counts, scans, bar)
    return counts


def _follow(run: CohortRun, counts: Counter[str], scans: int, bar: ProgressBar) -> None:
    for result in run:
        while run.notes:
            bar.say(run.notes.pop(0))
        counts[result.status] += 1
        counts["new"] += result.is_new
        counts["lesions"] += len(result.rows)
        if result.is_new or result.status == "failed":
            bar.say(_line(result))
        bar.count(counts["finished"] + counts["failed"], scans, "scans")


def _line(result: ScanResult) -> str:
    if result.status == "failed" and not result.is_new:
        return f"{result.id} failed before: {one_line(result.reason)}"
    if result.status == "failed":
        return f"{result.id} FAILED: {one_line(result.reason)}"
    noted = f"; {one_line(result.reason)}" if result.reason else ""
    return f"{result.id}: {counted(len(result.rows), 'lesion')}, {result.seconds:.1f} s{noted}"


def summary(counts: Counter[str], scans: int, out: Path, busy: float | None = None) -> str:
    """What was done, in a line.

    Args:
        counts: as `follow` returns them.
        scans: of all runs.
        out: the folder.
        busy: share of the time in which devices computed; None: unknown.
    """
    parts = [
        f"{counted(scans, 'scan')}, {counts['new']} of them now: {counts['finished']} finished"
    ]
    if counts["failed"]:
        parts.append(
            f"{counts['failed']} failed, see {out / 'status.tsv'}; mend them, then --retry-failed"
        )
    parts.append(f"{counted(counts['lesions'], 'lesion')} explained")
    if busy is not None and counts["new"]:
        parts.append(f"devices computed {100 * busy:.0f} % of the time")
    return f"{'; '.join(parts)}; results in {out}"
