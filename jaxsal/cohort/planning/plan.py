"""What a run over a cohort will take: lesions, time, memory and disk, from a trial of seconds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import jax
import psutil

from jaxsal.cohort.job import CohortJob
from jaxsal.cohort.machines.pipeline import lanes_of
from jaxsal.cohort.planning.cost import FULL, QUICK, Effort, work_of
from jaxsal.cohort.planning.counting import done_with_some, groups_of
from jaxsal.cohort.planning.forecast import CohortPlan, Forecast
from jaxsal.cohort.planning.trial import Trial, try_scan
from jaxsal.devices import computing_with, default_devices
from jaxsal.errors import InputError
from jaxsal.inputs.entries import Entry

OnCost = Callable[[float, float], None]
OnTrial = Callable[[Entry], None]


def plan_cohort(
    job: CohortJob,
    entries: Sequence[Entry],
    devices: Sequence[jax.Device] | None = None,
    *,
    effort: Effort = FULL,
    masks: int = 20,
    on_cost: OnCost = lambda seconds, quick: None,
    on_trial: OnTrial = lambda entry: None,
) -> CohortPlan:
    """Forecasts what a run over a cohort takes on this machine.

    Some scans are read, predicted and explained in part, as the run would; what that takes is
    scaled up by the number of scans and by the lesions that they have. These are counted in label
    maps where scans come with them; else they are estimated from reference masks or, without any,
    from the scans that were predicted.

    Args:
        job: what every scan is put through, with a memory budget.
        entries: the scans.
        devices: to compute on, all of one kind; by default the current one or all of the CPU's.
        effort: how many scans are tried, spread over the cohort, and how much is done with each;
            `QUICK` does little.
        masks: how many masks are read of each kind at most, spread over the cohort.
        on_cost: called, before planning begins, with the seconds that it will take, about and
            without compiling, and those that it would take with `QUICK`.
        on_trial: called with each scan that is predicted, before that.

    Raises:
        InputError: a setting cannot be worked with, or too many of the scans that were tried; in
            place of a few the next ones are tried, and the plan's notes name them.
    """
    if effort.sample < 1 or masks < 1 or not entries:
        raise InputError(
            f"a plan needs at least one scan, and one to try, got {len(entries)} scans, of which "
            f"{effort.sample} are to be tried and {masks} masks to be read"
        )
    lanes = lanes_of(tuple(devices or default_devices()))
    program = psutil.Process().memory_info().rss
    groups = groups_of(entries)
    trials: list[Trial] = []
    notes: list[str] = []

    def tried(entry: Entry) -> Trial:
        on_trial(entry)
        return try_scan(job, entry, effort.least_seconds, effort.voxels)

    with computing_with(lanes[0]):
        work = work_of(job, entries)
        if work is not None:
            on_cost(*(work.planning(job, each, len(groups)) for each in (effort, QUICK)))
        for group in groups:
            group.read_masks(masks, job.prediction.minimum_volume, notes)
            for trial in done_with_some(group.entries, effort.sample, tried, notes):
                trials.append(trial)
                group.found.append(trial.found)
                group.beside.append(trial.beside)
    plan = Forecast(job, groups, trials, lanes, program).plan()
    if effort.voxels is not None:
        notes.append(
            f"times of maps are those of about {effort.voxels} voxels at once; more at once take "
            "less time each"
        )
    compiling = plan.compiling + (work.compiling if work else 0.0)
    return replace(plan, compiling=compiling, notes=(*plan.notes, *dict.fromkeys(notes)))
