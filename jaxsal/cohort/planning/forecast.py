"""From counted lesions and trials of some scans to what a run over the cohort will take."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jaxsal.cohort.columns import lesion_columns
from jaxsal.cohort.job import CohortJob
from jaxsal.cohort.machines.local import WRITERS_PER_LANE
from jaxsal.cohort.planning.attempt import units_of
from jaxsal.cohort.planning.counting import Amount, Estimate, Group
from jaxsal.cohort.planning.trial import Trial
from jaxsal.cohort.storage.table import write_tables
from jaxsal.cores import available_cores
from jaxsal.saliency.memory import default_budget
from jaxsal.scan.methods import cost_of
from jaxsal.settings import OUTPUTS, ExplainSettings

_SCAN_FILES = 4  # label map with its sidecar, table and record, at every level
_COHORT_FILES = 15  # tables, run.json, what describes the dataset, locks, the list of scans
_SCAN_BYTES = 2000  # of a scan's record and sidecars without its lesions


@dataclass(frozen=True)
class Memory:
    """Bytes that a run needs at its largest.

    Attributes:
        computing: the budget of computing maps, on each device or on all of a CPU's together.
        scans: of the host, for scans that are read, computed and written at once.
        program: of the host, for the program itself.
        computing_is_of_host: whether the devices have no memory of their own.
    """

    computing: int
    scans: int
    program: int
    computing_is_of_host: bool

    @property
    def host(self) -> int:
        """All that the host needs."""
        return self.program + self.scans + (self.computing if self.computing_is_of_host else 0)


@dataclass(frozen=True)
class Disk:
    """What results take on disk.

    Attributes:
        size: bytes.
        files: their number.
    """

    size: Estimate
    files: Estimate


@dataclass(frozen=True)
class CohortPlan:
    """What a run over a cohort will take.

    Attributes:
        scans: their number.
        tried: of them were put through a part of the work.
        counted: how lesions were counted, a sentence for each kind of source.
        lesions: to explain.
        voxels: of these lesions.
        gradients: voxels (or groups of them) × noise samples; 0 for heat maps alone.
        seconds: of the whole run, without compiling.
        shares: seconds that each part of the work takes by itself: "reading", "prediction", each
            method, "writing". They overlap.
        compiling: seconds, once.
        memory: that it needs.
        disk: by output level.
        notes: what else is to be known.
    """

    scans: int
    tried: int
    counted: tuple[str, ...]
    lesions: Estimate
    voxels: Estimate
    gradients: Estimate
    seconds: Estimate
    shares: Mapping[str, Estimate]
    compiling: float
    memory: Memory
    disk: Mapping[str, Disk]
    notes: tuple[str, ...] = ()


@dataclass
class Forecast:
    """See the module.

    Attributes:
        job: what every scan is put through.
        groups: the scans, with those of their lesions that were counted.
        trials: of some scans.
        lanes: the devices of each lane.
        program: bytes of the host that the program takes.
        scans: how many there are.
        lesions: of theirs that are explained.
    """

    job: CohortJob
    groups: Sequence[Group]
    trials: Sequence[Trial]
    lanes: Sequence[Sequence[jax.Device]]
    program: int
    scans: int = field(init=False)
    lesions: Estimate = field(init=False)

    def __post_init__(self) -> None:
        self.scans = sum(len(group.entries) for group in self.groups)
        self.lesions = self._total(len)

    def plan(self) -> CohortPlan:
        """What the run will take."""
        shares = self._shares()
        gradients = [
            self._total(_units(method))
            for method in self.job.methods
            if cost_of(method) is not None
        ]
        return CohortPlan(
            self.scans,
            len(self.trials),
            tuple(group.told() for group in self.groups),
            self.lesions,
            self._total(sum),
            sum(gradients, Estimate(0.0)),
            self._seconds(shares),
            shares,
            self.trials[0].compiling,
            self._memory(),
            {level: self._disk(level) for level in OUTPUTS},
            tuple(self._notes()),
        )

    def _total(self, amount: Amount) -> Estimate:
        return sum((group.total(amount) for group in self.groups), Estimate(0.0))

    def _shares(self) -> dict[str, Estimate]:
        scans = Estimate(self.scans)
        writing = [sum(method.writing for method in trial.methods) for trial in self.trials]
        shares = {
            "reading": _scaled(scans, [trial.reading for trial in self.trials]),
            "prediction": _scaled(scans, [trial.prediction for trial in self.trials]),
        }
        for index, method in enumerate(self.job.methods):
            units = self._total(_units(method))
            tried = [trial.methods[index] for trial in self.trials]
            rates = [one.seconds / one.units for one in tried]
            shares[method.name] = _scaled(units, rates, [one.units for one in tried])
        others = _scaled(scans, [trial.writing for trial in self.trials])
        return {**shares, "writing": _scaled(self.lesions, writing) + others}

    def _seconds(self, shares: Mapping[str, Estimate]) -> Estimate:
        """Of the whole; a CPU's cores compute, read and write, else these go on side by side."""
        aside = [shares["reading"], shares["writing"]]
        computing = sum(
            (share for name, share in shares.items() if name not in ("reading", "writing")),
            Estimate(0.0),
        )
        if self.lanes[0][0].platform == "cpu":
            return computing + sum(aside, Estimate(0.0)).times(1 / available_cores())
        count = len(self.lanes)
        sides = [computing, aside[0], aside[1].times(1 / WRITERS_PER_LANE)]
        return max(sides, key=lambda side: side.value).times(1 / count)

    def _memory(self) -> Memory:
        """By the arrays of scans that are held: computed, being written, and read ahead."""
        channels, lanes = len(self.job.model.channels), len(self.lanes)
        voxels = max(math.prod(trial.shape) for trial in self.trials)
        image, found = 4 * channels, 4 + 4 + 4  # mask or label map, probability, labels
        held = lanes * (2 * (image + found) + image) + image  # (lanes + 1) ahead
        reading = lanes * (2 * image + 16)  # files, and their values in float64
        logits = lanes * 3 * 4 * _outputs(self.job) if self._of_host else 0
        whole = 4 * (channels + 2) if self.job.settings.output == "full" else 0
        crop = max(method.voxels for trial in self.trials for method in trial.methods)
        writers = WRITERS_PER_LANE * lanes
        queue = (3 * writers + 2) * 4 * channels * crop + writers * whole * voxels
        budget = self.job.memory or default_budget(self.lanes[0])
        scans = int(voxels * (held + reading + logits) + queue)
        return Memory(budget, scans, self.program, self._of_host)

    @property
    def _of_host(self) -> bool:
        return self.lanes[0][0].platform == "cpu"

    def _disk(self, level: str) -> Disk:
        per_lesion = [
            trial.row + sum(method.written[level] for method in trial.methods)
            for trial in self.trials
        ]
        per_scan = [trial.written[level] + _SCAN_BYTES for trial in self.trials]
        size = _scaled(self.lesions, per_lesion) + _scaled(Estimate(self.scans), per_scan)
        size += Estimate(_cohort_bytes(self.job))
        files = Estimate(_SCAN_FILES * self.scans + _COHORT_FILES)
        if level != "table":
            maps = sum(method.files for method in self.trials[0].methods)
            sidecars = sum(len(shown.files) for shown in self.job.shown)
            files += self.lesions.times(maps) + Estimate(
                self.scans * (2 + sidecars)
            )  # the probability
        return Disk(size, files)

    def _notes(self) -> list[str]:
        notes = []
        if any(cost is not None and cost.at_most for cost in map(cost_of, self.job.methods)):
            notes.append(
                "the forecast is for all noisy images of every lesion, of which the tolerance may "
                "spare a part"
            )
        if len(self.trials) < self.scans and any(
            len(group.found) == 1 < len(group.entries) for group in self.groups
        ):
            notes.append("a single scan was tried, which does not show how much scans differ")
        if not any(trial.found for trial in self.trials):
            notes.append(
                "no lesion was found in the scans that were tried: the time of a lesion is that of "
                "synthetic ones"
            )
        if len({trial.shape for trial in self.trials}) > 1:
            notes.append("scans have different grids: programs may be compiled for each of them")
        return notes


def _cohort_bytes(job: CohortJob) -> int:
    """What the tables over a cohort and the record of the run take without any lesion."""
    with tempfile.TemporaryDirectory() as folder:
        write_tables(Path(folder), lesion_columns(job.shown), ())
        tables = sum(path.stat().st_size for path in Path(folder).iterdir())
    return tables + len(json.dumps([job.identity, asdict(job.outline)], indent=1))


def _units(method: ExplainSettings) -> Amount:
    """What the time of a scan's lesions goes by."""
    return lambda sizes: sum(units_of(method, voxels) for voxels in sizes)


def _scaled(
    amount: Estimate, rates: Sequence[float], weights: Sequence[float] | None = None
) -> Estimate:
    """An amount times the mean of rates, with the error of both."""
    mean = float(np.average(rates, weights=weights))
    error = float(np.std(rates, ddof=1)) / math.sqrt(len(rates)) if len(rates) > 1 else 0.0
    return amount.times(mean, error / mean if mean else 0.0)


def _outputs(job: CohortJob) -> int:
    """Number of the network's output channels."""
    window = jax.ShapeDtypeStruct((1, *job.prediction.roi, len(job.model.channels)), jnp.float32)
    logits = jax.eval_shape(job.model.function, job.model.parameters, window)
    return int(logits.shape[-1])
