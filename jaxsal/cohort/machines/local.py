"""The devices of this machine."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax

from jaxsal.cohort.machines.pipeline import Pipeline, lanes_of
from jaxsal.cohort.parts import Keeper, OnScan, ScanOutcome
from jaxsal.cohort.storage.folder import CohortFolder
from jaxsal.cohort.storage.in_folder import FolderKeeper
from jaxsal.cohort.storage.in_memory import MemoryKeeper
from jaxsal.cohort.storage.writer import WRITERS_PER_LANE, Writer
from jaxsal.inputs.entries import Entry
from jaxsal.saliency.memory import default_budget
from jaxsal.scan.provenance import software
from jaxsal.store.stamps import Inputs

if TYPE_CHECKING:
    from jaxsal.cohort.job import CohortJob


@dataclass
class Local:
    """The devices of this machine; see `jaxsal.cohort.parts.Machines`.

    Attributes:
        devices: to compute on, all of one kind.
        on_scan: called with how far a scan is, from the threads that compute.
        busy_share: share of the time in which devices computed, from 0 to 1; None before the end.
    """

    devices: tuple[jax.Device, ...]
    on_scan: OnScan = lambda entry, progress: None
    busy_share: float | None = None

    @property
    def ran(self) -> dict[str, Any]:
        """Device and software."""
        return {"device": self.devices[0].device_kind, **software()}

    def outcomes(
        self, job: CohortJob, entries: Sequence[Entry], folder: CohortFolder | None
    ) -> Generator[ScanOutcome]:
        lanes = lanes_of(self.devices)
        with closing(Writer(WRITERS_PER_LANE * len(lanes))) as writer:

            def keeper_of(entry: Entry, inputs: Inputs) -> Keeper:
                if folder is None:
                    return MemoryKeeper(job, entry, inputs)
                return FolderKeeper(job, entry, folder, inputs, writer)

            pipeline = Pipeline(job, lanes, keeper_of, self.on_scan)
            with closing(pipeline.run(entries)) as outcomes:
                yield from outcomes
            if pipeline.lane_seconds:
                self.busy_share = pipeline.busy_seconds / pipeline.lane_seconds

    def memory(self) -> int:
        """Bytes for computing maps."""
        return default_budget(lanes_of(self.devices)[0])
