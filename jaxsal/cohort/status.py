"""How far a cohort's folder is; it can be looked at while runs work in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from jaxsal.cohort.storage.folder import CohortFolder
from jaxsal.cohort.storage.lock import Owner


@dataclass(frozen=True)
class CohortStatus:
    """How far a cohort's folder is.

    Attributes:
        scans: of the whole cohort.
        finished: scans whose results are there.
        failed: why scans failed, by what they are called.
        begun: scans of which some portions are recorded, by what their files begin with.
        lesions: that were explained, of finished scans.
        seconds: that computing these took.
        runs: who works in the folder now, by shard.
        damaged: results that are not as they were written; None if not looked at.
    """

    scans: int
    finished: int
    failed: Mapping[str, str]
    begun: Mapping[str, int]
    lesions: int
    seconds: float
    runs: Mapping[str, Owner]
    damaged: list[str] | None

    @property
    def seconds_left(self) -> float | None:
        """A forecast from the scans that are finished, for the runs of now; None without these."""
        if not self.finished or not self.runs:
            return None
        left = self.scans - self.finished - len(self.failed)
        return left * self.seconds / self.finished / len(self.runs)


def cohort_status(out: Path, *, verify: bool = False) -> CohortStatus:
    """Looks at a cohort's folder.

    Args:
        out: the folder.
        verify: read every result, and compare it with the checksum that was recorded.

    Raises:
        InputError: it is no such folder.
    """
    folder = CohortFolder(out)
    told = folder.told()
    finished = lesions = 0
    seconds = 0.0
    failed: dict[str, str] = {}
    damaged: list[str] = []
    for record in folder.records():
        if record.status == "failed":
            failed[record.id] = record.reason
            continue
        finished += 1
        lesions += len(record.rows)
        seconds += record.seconds
        if verify:
            damaged += record.damaged(folder.root)
    return CohortStatus(
        int(told["scans"]),
        finished,
        failed,
        folder.unfinished(),
        lesions,
        seconds,
        folder.runs(),
        damaged if verify else None,
    )
