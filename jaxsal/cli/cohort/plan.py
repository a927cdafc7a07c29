"""``jaxsal cohort plan``: what a run will take."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from jaxsal.cli import options as shared
from jaxsal.cli.command import Command, Given, group
from jaxsal.cli.methods import cohort_settings, of_cohort
from jaxsal.options import option
from jaxsal.wording import counted, duration

if TYPE_CHECKING:
    from jaxsal.cohort.planning.counting import Uncertain
    from jaxsal.cohort.planning.forecast import CohortPlan


@dataclass(frozen=True)
class _Sample:
    """How thoroughly.

    Attributes:
        sample: how many scans are tried, spread over the cohort. None: 2, with --quick 1.
        quick: try fewer scans, and each method for a few batches only: a rougher forecast in a
            fraction of the time.
    """

    sample: int | None = option(None, "N")
    quick: bool = option(False)


def run(given: Given) -> None:
    """Runs the command."""
    settings, sample = cohort_settings(given), given.of(_Sample)
    from jaxsal.cli.progress import ProgressBar
    from jaxsal.cohort.job import CohortJob
    from jaxsal.cohort.machines.order import with_budget
    from jaxsal.cohort.planning.plan import QUICK, Effort, plan_cohort
    from jaxsal.cohort.run import Local

    effort = QUICK if sample.quick else Effort()
    if sample.sample is not None:
        effort = replace(effort, sample=sample.sample)
    with shared.computing(given, everywhere=True) as devices, ProgressBar() as bar:
        bar.stage("reading")
        model = shared.load_model(given)
        entries = shared.model_entries(given, model)
        limited = with_budget(settings, Local(tuple(devices)).memory())
        job = CohortJob(model, shared.prediction_settings(given, model), limited)
        plan = plan_cohort(
            job,
            entries,
            devices,
            effort=effort,
            on_cost=lambda *seconds: bar.say(_cost(*seconds, quick=sample.quick)),
            on_trial=lambda entry: bar.stage(f"trying {entry.id}"),
        )
    print("\n".join(_lines(plan)))


def _cost(seconds: float, with_quick: float, *, quick: bool) -> str:
    """What planning itself takes, in a sentence."""
    text = f"planning takes about {duration(seconds)} itself, and compiling"
    return text if quick else f"{text}; with --quick about {duration(with_quick)}"


def _lines(plan: CohortPlan) -> Iterator[str]:
    lesions = f"{_number(plan.lesions)} lesions of {_number(plan.voxels)} voxels"
    yield (
        f"{counted(plan.scans, 'scan')}: {lesions}"
        + (f", {_number(plan.gradients)} gradients" if plan.gradients.value else "")
    )
    yield from (f"  {sentence}" for sentence in plan.counted)
    yield f"time: {_ranged(plan.seconds, duration)}, and {duration(plan.compiling)} to compile once"
    parts = (f"{name} {duration(share.value)}" for name, share in plan.shares.items())
    yield f"  {', '.join(parts)}; reading and writing go on beside the rest"
    own = f", {_bytes(plan.memory.computing)} of each device"
    yield f"memory: {_bytes(plan.memory.host)}{'' if plan.memory.computing_is_of_host else own}"
    for level, disk in plan.disk.items():
        size = _ranged(disk.size, _bytes)
        yield f"disk with --output {level}: {size}, {_number(disk.files)} files"
    yield from (f"note: {note}" for note in plan.notes)


def _number(number: Uncertain) -> str:
    return _ranged(number, lambda value: f"{value:,.0f}")


def _ranged(number: Uncertain, show: Callable[[float], str]) -> str:
    """A number, with the range of two standard errors if it has one."""
    middle = show(number.value)
    if not number.error:
        return middle
    low, high = (max(number.value + side * number.error, 0) for side in (-2, 2))
    return f"about {middle} ({show(low)} to {show(high)})"


def _bytes(size: float) -> str:
    for unit, scale in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if size >= scale:
            return f"{size / scale:.3g} {unit}"
    return f"{size / 1e3:.0f} kB"


COMMAND = Command(
    "Puts some scans through a part of the work and forecasts what `jaxsal cohort run` with the "
    "same options takes on this machine. Writes nothing.",
    lambda: (shared.MODEL, shared.COHORT, group(_Sample), *of_cohort()),
    run,
)
