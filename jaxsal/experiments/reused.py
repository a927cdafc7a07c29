"""Maps of an earlier run over the cohort, which are read and never changed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxsal.cohort.job import Job
from jaxsal.cohort.results import CohortResults, ScanResults
from jaxsal.cohort.storage.folder import CohortFolder
from jaxsal.errors import InputError
from jaxsal.inputs.entries import Entry
from jaxsal.store.identity import flat
from jaxsal.store.records import ScanRecord, are_same

_ANY = ("settings.output", "settings.portion")  # what is kept, and what is recorded together
_SHOWN = 5  # differences, or scans, that a message names


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

    def __init__(self, root: Path, entries: Sequence[Entry], job: Job) -> None:
        super().__init__(root)
        _check_identity(root, self.identity, json.loads(json.dumps(job.identity)))
        self._stems = {entry.stem for entry in entries}
        folder = CohortFolder(root)
        records = {e.stem: folder.record(e.stem) for e in entries}
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
            raise InputError(
                f"{self.root} has no maps of all scans: {_some(wrong)}. Run `jaxsal cohort run` "
                "over them first, into that folder, or leave out --maps to have maps computed"
            )


def _check_identity(root: Path, earlier: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    before, after = flat(earlier), flat(now)
    model = "model.parameters_sha256"
    if before.get(model) != after.get(model):
        raise InputError(
            f"{root} holds maps of another model: give the model that they are of, or leave out "
            "--maps to have maps computed"
        )
    changed = [
        f"{name} was {before.get(name, 'not there')}, is {after.get(name, 'not there')}"
        for name in sorted({*before, *after} - {*_ANY})
        if before.get(name) != after.get(name)
    ]
    if changed:
        raise InputError(
            f"{root} holds maps of other settings: {_some(changed)}. Give the options that its run "
            "was given, or leave out --maps to have maps computed"
        )


def _some(things: Sequence[str]) -> str:
    return "; ".join(things[:_SHOWN]) + ("; and more" if len(things) > _SHOWN else "")
