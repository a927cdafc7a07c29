"""Maps of an earlier run over the cohort, which are read and never changed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from jaxsal.cohort.job import CohortJob
from jaxsal.cohort.results import CohortResults, ScanResults
from jaxsal.errors import InputError
from jaxsal.inputs.entries import Entry
from jaxsal.store.identity import require_same
from jaxsal.store.records import ScanRecord, are_same

# what is kept, or recorded together, or written besides; and what has no effect on scans of the
# network's voxels
_ANY = ("settings.output", "settings.portion", "settings.uncertainty", "model.preprocessing.permit")
_ADVICE = (
    "Give the model and the options that its run was given, or leave out --maps to have maps "
    "computed"
)
_SHOWN = 5  # scans that a message names


class ReusedMaps(CohortResults):
    """The results of some scans in the folder of a run over them, and perhaps over others.

    Args:
        root: the folder.
        entries: the scans.
        job: what the run must have put them through.

    Attributes:
        left_out: why scans are, by what they are called.

    Raises:
        InputError: the folder is of no run, of one of another model or settings, or of one that did
            not do some of the scans as they are now.
    """

    def __init__(self, root: Path, entries: Sequence[Entry], job: CohortJob) -> None:
        super().__init__(root)
        now = json.loads(json.dumps(job.identity))
        require_same(root, self.identity, now, "maps of {}", _ADVICE, _ANY)
        self._stems = {entry.stem for entry in entries}
        records = {e.stem: self._folder.record(e.stem) for e in entries}
        self._check_scans(entries, records)
        self.left_out = {
            entry.id: record.reason
            for entry in entries
            if (record := records[entry.stem]) and record.status == "failed"
        }

    def scans(self) -> Iterator[ScanResults]:
        """The finished ones among the scans that were asked for, in the run's order."""
        for scan in super().scans():
            if scan.record.stem in self._stems:
                yield scan

    def _check_scans(
        self, entries: Sequence[Entry], records: Mapping[str, ScanRecord | None]
    ) -> None:
        wrong = []
        for entry in entries:
            record = records[entry.stem]
            if record is None or record.id != entry.id:
                wrong.append(f"{entry.id} is not among its results")
            elif not are_same(record.inputs, entry.scan, self.channels):
                wrong.append(f"{entry.id} has other files now")
            elif missing := record.missing(self.root):
                wrong.append(f"{entry.id}: {missing[0]} is gone or has changed")
        if wrong:
            more = "; and more" if len(wrong) > _SHOWN else ""
            raise InputError(
                f"{self.root} has no maps of all scans: {'; '.join(wrong[:_SHOWN])}{more}. Run "
                "`jaxsal cohort run` over them first, into that folder, or leave out --maps to "
                "have maps computed"
            )
