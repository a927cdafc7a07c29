"""The devices of this machine."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import jax

from jaxsal.cohort.job import Job
from jaxsal.cohort.machines.pipeline import FinishingKeeper, OnScan, Outcome, Pipeline, lanes_of
from jaxsal.cohort.storage.folder import CohortFolder
from jaxsal.cohort.storage.in_folder import FolderKeeper
from jaxsal.cohort.storage.in_memory import MemoryKeeper
from jaxsal.cohort.storage.writer import Writer
from jaxsal.inputs.entries import Entry
from jaxsal.saliency.memory import default_budget
from jaxsal.scan.provenance import software
from jaxsal.settings import CohortSettings
from jaxsal.store.records import Inputs

WRITERS_PER_LANE = 2


@dataclass
class Local:
    """The devices of this machine; see `jaxsal.cohort.run.Machines`.

    Attributes:
        devices: to compute on, all of one kind.
        on_scan: told how far a scan is, from the threads that compute.
        busy_share: part of the time that devices computed, from 0 to 1; None before the end.
    """

    devices: tuple[jax.Device, ...]
    on_scan: OnScan = lambda entry, progress: None
    busy_share: float | None = None

    @property
    def ran(self) -> dict[str, Any]:
        """Device and software."""
        return {"device": self.devices[0].device_kind, **software()}

    def outcomes(
        self, job: Job, entries: Sequence[Entry], folder: CohortFolder | None
    ) -> Generator[Outcome]:
        lanes = lanes_of(self.devices)
        with closing(Writer(WRITERS_PER_LANE * len(lanes))) as writer:

            def keeper_of(entry: Entry, inputs: Inputs) -> FinishingKeeper:
                if folder is None:
                    return MemoryKeeper(job, entry, inputs)
                return FolderKeeper(job, entry, folder, inputs, writer)

            pipeline = Pipeline(job, lanes, keeper_of, self.on_scan)
            with closing(pipeline.run(entries)) as outcomes:
                yield from outcomes
            if pipeline.lane_seconds:
                self.busy_share = pipeline.busy_seconds / pipeline.lane_seconds

    def within_memory(
        self, settings: CohortSettings, folder: CohortFolder | None
    ) -> CohortSettings:
        """The settings with a memory budget; see `with_budget`."""
        return with_budget(settings, folder, default_budget(lanes_of(self.devices)[0]))


def with_budget(settings: CohortSettings, folder: CohortFolder | None, now: int) -> CohortSettings:
    """The settings with a memory budget, which decides what is computed together.

    Results depend on that by rounding. So the budget of the folder's first run serves later ones,
    unless there is far less memory now.

    Args:
        settings: a budget that they have already stands.
        folder: the cohort's.
        now: bytes that there are now.
    """
    first = folder.memory() if folder is not None else None
    budget = first if first is not None and first <= 2 * now else now
    return replace(
        settings,
        saliency=tuple(
            replace(method, memory=method.memory or budget) for method in settings.saliency
        ),
    )
