"""What a run over a cohort will take: lesions, time, memory and disk, by trials of some scans."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import jax
import psutil

from jaxsal.cohort.machines.pipeline import lanes_of
from jaxsal.cohort.planning.counting import Group, done_with_some, groups_of
from jaxsal.cohort.planning.forecast import CohortPlan, forecast_run
from jaxsal.cohort.planning.trial import Trial, try_scan
from jaxsal.devices import computing_with, default_devices
from jaxsal.errors import InputError
from jaxsal.inputs.entries import Entry

if TYPE_CHECKING:
    from jaxsal.cohort.job import CohortJob


@dataclass(frozen=True)
class Effort:
    """How much of the work planning does.

    Attributes:
        sample: scans that are tried, of those with label maps, with reference masks and without.
        least_seconds: how long each method is tried on a scan; three batches at least.
        masks: masks that are read at most, of label maps and of reference masks.
    """

    sample: int = 2
    least_seconds: float = 5.0
    masks: int = 20


QUICK = Effort(sample=1, least_seconds=0.0)


def plan_cohort(
    job: CohortJob,
    entries: Sequence[Entry],
    devices: Sequence[jax.Device] | None = None,
    *,
    effort: Effort = Effort(),
    on_cost: Callable[[float, float], None] = lambda seconds, quick: None,
    on_trial: Callable[[Entry], None] = lambda entry: None,
) -> CohortPlan:
    """Forecasts what a run over a cohort takes on this machine.

    Some scans, spread over the cohort, are read, predicted and explained in part, as the run would;
    the time is scaled up by the number of scans and of their lesions. Lesions are counted in label
    maps where scans come with them; else they are estimated from reference masks or, without any,
    from the scans that were predicted.

    Args:
        job: of the run, with a memory budget.
        entries: the scans.
        devices: to compute on, all of one kind; by default the current one or all of the CPU's.
        effort: how much is tried; `QUICK` is little.
        on_cost: called, when the first scan is predicted, with the seconds that planning takes in
            all, about and without compiling, and those that it takes with `QUICK`.
        on_trial: called with each scan that is tried, before that.

    Raises:
        InputError: a setting cannot be used, or too many of the scans that were tried; in place of
            a few the next ones are tried, and the plan's notes name them.
    """
    if effort.sample < 1 or effort.masks < 1 or not entries:
        raise InputError(
            f"a plan needs at least one scan, and one to try, got {len(entries)} scans, of which "
            f"{effort.sample} are to be tried and {effort.masks} masks to be read"
        )
    lanes = lanes_of(tuple(devices or default_devices()))
    program = psutil.Process().memory_info().rss
    groups = groups_of(entries)
    trials: list[Trial] = []
    notes: list[str] = []

    def say_cost(scan: float) -> None:
        if not trials:
            on_cost(*(_cost(scan, groups, len(job.methods), each) for each in (effort, QUICK)))

    def tried(entry: Entry) -> Trial:
        on_trial(entry)
        return try_scan(job, entry, effort.least_seconds, say_cost)

    with computing_with(lanes[0]):
        for group in groups:
            group.read_masks(effort.masks, job.prediction.minimum_volume, notes)
            for trial in done_with_some(group.entries, effort.sample, tried, notes):
                trials.append(trial)
                group.found.append(trial.found)
                group.beside.append(trial.beside)
    plan = forecast_run(job, groups, trials, lanes, program)
    return replace(plan, notes=(*plan.notes, *dict.fromkeys(notes)))


def _cost(scan: float, groups: Sequence[Group], methods: int, effort: Effort) -> float:
    """Seconds of planning, from those of reading a scan and finding its lesions."""
    tried = sum(min(effort.sample, len(group.entries)) for group in groups)
    return tried * (scan + methods * effort.least_seconds)
