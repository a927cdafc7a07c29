"""The progress of a cohort's folder, also while runs work in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jaxsal.cohort.storage.folder import CohortFolder
from jaxsal.store.lock import Owner


@dataclass(frozen=True)
class CohortStatus:
    """The progress of a cohort's folder.

    Attributes:
        scans: of the whole cohort.
        finished: scans whose results are there.
        failed: why scans failed, by their ids.
        others: scans that are done, but no longer in the cohort.
        begun: number of recorded portions of unfinished scans, by their stems.
        lesions: explained lesions of finished scans.
        seconds: that computing these took.
        pace: scans finished per second since the last of the present runs began; None without.
        runs: the runs that work in the folder now, by shard.
        damaged: results and records that have changed; None if not checked.
    """

    scans: int
    finished: int
    failed: Mapping[str, str]
    others: int
    begun: Mapping[str, int]
    lesions: int
    seconds: float
    pace: float | None
    runs: Mapping[str, Owner]
    damaged: list[str] | None

    @property
    def left(self) -> int:
        """The number of scans that are left."""
        return self.scans - self.finished - len(self.failed)

    @property
    def seconds_left(self) -> float | None:
        """A forecast at the present pace; None if there is none."""
        return self.left / self.pace if self.pace else None


def cohort_status(out: Path, *, verify: bool = False) -> CohortStatus:
    """Reads the progress of a cohort's folder.

    Args:
        out: the folder.
        verify: read every result and compare it with its recorded checksum.

    Raises:
        InputError: it is no such folder.
    """
    folder = CohortFolder(out)
    run, ids, runs = folder.recorded(), folder.scans(), folder.runs()
    lesions = others = 0
    seconds = 0.0
    failed: dict[str, str] = {}
    damaged: list[str] = []
    finished: list[float] = []  # when, by the file system
    for path in folder.record_paths():
        record = folder.record(path.stem)
        if record is None:
            damaged += [path.relative_to(out).as_posix()] if path.exists() else []
            continue
        if verify:
            damaged += record.damaged(folder.root)
        if ids and ids.get(record.stem) != record.id:
            others += 1
        elif record.status == "failed":
            failed[record.id] = record.reason
        else:
            lesions += len(record.rows)
            seconds += record.seconds
            finished.append(_time(path))
    return CohortStatus(
        _count(run.get("scans"), ids),
        len(finished),
        failed,
        others,
        {stem: count for stem, count in folder.unfinished().items() if not ids or stem in ids},
        lesions,
        seconds,
        _pace(finished, list(runs.values())),
        runs,
        damaged if verify else None,
    )


def _count(recorded: object, ids: Mapping[str, str]) -> int:
    """The number of scans; where the record of it is damaged, those that are listed."""
    return recorded if isinstance(recorded, int) and recorded >= 0 else len(ids)


def _time(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # a run has just removed it
        return 0.0


def _pace(finished: Sequence[float], runs: Sequence[Owner]) -> float | None:
    """Scans per second since the last of these runs began; None without runs."""
    if not runs:
        return None
    began = max(run.noted for run in runs)  # by the same clock as the times of files
    since = [time for time in finished if time > began]
    return len(since) / (max(since) - began) if since else None
