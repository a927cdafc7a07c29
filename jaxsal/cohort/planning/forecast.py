"""From counted lesions and trials of some scans to what a run over the cohort will take."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from jaxsal.cohort.parts import WRITERS_PER_LANE
from jaxsal.cohort.planning.counting import Group, PerScan, Uncertain, units_of
from jaxsal.cohort.storage.table import write_tables
from jaxsal.processes import available_cores
from jaxsal.saliency.memory import default_budget
from jaxsal.scan.methods import cost_of
from jaxsal.settings import ExplainSettings

if TYPE_CHECKING:
    from jaxsal.cohort.job import CohortJob
    from jaxsal.cohort.planning.trial import Trial

_COHORT_FILES = 15  # tables, run.json, what describes the dataset, locks, the list of scans


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

    size: Uncertain
    files: Uncertain


@dataclass(frozen=True)
class CohortPlan:
    """What a run over a cohort will take.

    Attributes:
        scans: their number.
        tried: number of the scans that were tried.
        counted: how lesions were counted, a sentence for each kind of source.
        lesions: to explain.
        voxels: of these lesions.
        gradients: voxels (or groups of them) × noisy images; 0 for heat maps alone.
        seconds: of the whole run, without compiling.
        shares: seconds that each part of the work takes by itself: "reading", "prediction", each
            method, "writing". They overlap.
        compiling: seconds, once.
        memory: that it needs.
        disk: by output level.
        notes: warnings, in sentences.
    """

    scans: int
    tried: int
    counted: tuple[str, ...]
    lesions: Uncertain
    voxels: Uncertain
    gradients: Uncertain
    seconds: Uncertain
    shares: Mapping[str, Uncertain]
    compiling: float
    memory: Memory
    disk: Mapping[str, Disk]
    notes: tuple[str, ...] = ()


def forecast_run(
    job: CohortJob,
    groups: Sequence[Group],
    trials: Sequence[Trial],
    lanes: Sequence[Sequence[jax.Device]],
    program: int,
) -> CohortPlan:
    """Scales trials up to a run.

    Args:
        job: of the run.
        groups: the scans, with the lesions that were counted.
        trials: of some scans.
        lanes: the devices of each lane.
        program: bytes of the host that the program takes.
    """
    scans, lesions = sum(len(group.entries) for group in groups), _total(groups, len)
    shares = _shares(job, groups, trials)
    costly = [method for method in job.methods if cost_of(method) is not None]
    return CohortPlan(
        scans,
        len(trials),
        tuple(group.counted() for group in groups),
        lesions,
        _total(groups, sum),
        Uncertain.sum(_total(groups, _units(method)) for method in costly),
        _seconds(shares, lanes),
        shares,
        trials[0].compiling,
        _memory(job, trials, lanes, program),
        {level: _disk(job, scans, lesions, trials, level) for level in trials[0].scans},
        tuple(_notes(job, groups, trials)),
    )


def _total(groups: Iterable[Group], of: PerScan) -> Uncertain:
    return Uncertain.sum(group.total(of) for group in groups)


def _units(method: ExplainSettings) -> PerScan:
    """What the time of a scan's lesions goes by."""
    return lambda sizes: sum(units_of(method, voxels) for voxels in sizes)


def _scaled(amount: Uncertain, rates: Sequence[float]) -> Uncertain:
    """An amount times the mean of rates, with the error of both."""
    mean = float(np.mean(rates))
    error = float(np.std(rates, ddof=1)) / math.sqrt(len(rates)) if len(rates) > 1 else 0.0
    return amount.times(mean, error / mean if mean else 0.0)


def _shares(
    job: CohortJob, groups: Sequence[Group], trials: Sequence[Trial]
) -> dict[str, Uncertain]:
    scans = Uncertain(sum(len(group.entries) for group in groups))
    output = job.settings.output
    writing = [
        _scaled(_total(groups, len), [trial.lesions[output].seconds for trial in trials]),
        _scaled(scans, [trial.scans[output].seconds for trial in trials]),
    ]
    methods = {
        method.name: _scaled(_total(groups, _units(method)), [t.rates[index] for t in trials])
        for index, method in enumerate(job.methods)
    }
    return {
        "reading": _scaled(scans, [trial.reading for trial in trials]),
        "prediction": _scaled(scans, [trial.prediction for trial in trials]),
        **methods,
        "writing": Uncertain.sum(writing),
    }


def _seconds(shares: Mapping[str, Uncertain], lanes: Sequence[Sequence[jax.Device]]) -> Uncertain:
    """Of the whole; a CPU's cores compute, read and write, else these go on side by side."""
    aside = [shares["reading"], shares["writing"]]
    computing = Uncertain.sum(shares[name] for name in shares if name not in ("reading", "writing"))
    if lanes[0][0].platform == "cpu":
        return computing + Uncertain.sum(aside).times(1 / available_cores())
    sides = [computing, aside[0], aside[1].times(1 / WRITERS_PER_LANE)]
    return max(sides, key=lambda side: side.value).times(1 / len(lanes))


def _memory(
    job: CohortJob,
    trials: Sequence[Trial],
    lanes: Sequence[Sequence[jax.Device]],
    program: int,
) -> Memory:
    """By the arrays of scans that are held: computed, being written, and read ahead."""
    of_host = lanes[0][0].platform == "cpu"
    channels, count = len(job.model.channels), len(lanes)
    voxels = max(math.prod(trial.shape) for trial in trials)
    image, found = 4 * channels, 4 + 4 + 4  # mask or label map, probability, labels
    held = count * (2 * (image + found) + image) + image  # (lanes + 1) ahead
    reading = count * (2 * image + 16)  # files, and their values in float64
    logits = count * 3 * 4 * _outputs(job) if of_host else 0
    whole = 4 * (channels + 2) if job.settings.output == "full" else 0
    writers = WRITERS_PER_LANE * count
    crop = max(trial.voxels for trial in trials)
    queue = (3 * writers + 2) * 4 * channels * crop + writers * whole * voxels
    budget = job.memory or default_budget(lanes[0])
    return Memory(budget, int(voxels * (held + reading + logits) + queue), program, of_host)


def _outputs(job: CohortJob) -> int:
    """Number of the network's output channels."""
    window = jax.ShapeDtypeStruct((1, *job.prediction.roi, len(job.model.channels)), jnp.float32)
    logits = jax.eval_shape(job.model.function, job.model.parameters, window)
    return int(logits.shape[-1])


def _disk(
    job: CohortJob, scans: int, lesions: Uncertain, trials: Sequence[Trial], level: str
) -> Disk:
    per_lesion = [trial.lesions[level] for trial in trials]
    per_scan = [trial.scans[level] for trial in trials]
    size = _scaled(lesions, [written.size for written in per_lesion])
    size += _scaled(Uncertain(scans), [written.size for written in per_scan])
    files = lesions.times(per_lesion[0].files) + Uncertain(scans * per_scan[0].files)
    return Disk(size + Uncertain(_cohort_bytes(job)), files + Uncertain(_COHORT_FILES))


def _cohort_bytes(job: CohortJob) -> int:
    """What the tables over a cohort and the record of the run take without any lesion."""
    with tempfile.TemporaryDirectory() as folder:
        write_tables(Path(folder), job.columns(), ())
        tables = sum(path.stat().st_size for path in Path(folder).iterdir())
    return tables + len(json.dumps([job.identity, asdict(job.outline())], indent=1))


def _notes(job: CohortJob, groups: Sequence[Group], trials: Sequence[Trial]) -> Iterable[str]:
    if any(cost is not None and cost.at_most for cost in map(cost_of, job.methods)):
        yield (
            "the forecast is for all noisy images of every lesion, of which the tolerance may "
            "spare a part"
        )
    scans = sum(len(group.entries) for group in groups)
    if len(trials) < scans and any(len(g.found) == 1 < len(g.entries) for g in groups):
        yield "a single scan was tried, which does not show how much scans differ"
    if not any(trial.found for trial in trials):
        yield (
            "no lesion was found in the scans that were tried: the time of a lesion is that of "
            "synthetic ones"
        )
    if len({trial.shape for trial in trials}) > 1:
        yield "scans have different grids: programs may be compiled for each of them"
