"""How long maps of a scan take on a device, predicted from the programs compiled for it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench.ahead import Planned, cases
from bench.case import Job, make_model
from bench.ceilings import Ceilings, measure_ceilings
from bench.compiled_figures import figures_of
from bench.nets import PaperNetwork
from bench.record import Found, Row
from bench.targets import Target
from bench.visits import visits_of
from jaxsal.current_device import tracing_for
from jaxsal.errors import InputError
from jaxsal.model import Model
from jaxsal.types import Triple

_PROGRAMS = ("linearise", "pull_back")


def forecast(
    job: Job, target: Target, share: float, host_us: float | None, kept: Path | None = None
) -> Row:
    """The seconds of a scan's maps on a device, and what they follow from.

    Args:
        job: the scan.
        target: the device, which need not be here.
        share: of the speed at the device's peak that programs are taken to reach.
        host_us: microseconds of the host per gradient, if they are known.
        kept: a folder with what the compiler said in earlier runs.

    Raises:
        InputError: the device lacks the job's precision, a program does not compile, or the
            windows are no cubes.
    """
    target.require(job.precision)
    model = make_model(job)
    visits, peaks = visits_of(job, model), peaks_of(target, job.precision)
    programs = _compiled(model, visits.window, target, kept)
    linearise, pull_back = (programs[name] for name in _PROGRAMS)
    batch = pull_back["batch"]
    seconds = visits.windows * _least(linearise, peaks)
    seconds += visits.pull_backs * _least(pull_back, peaks) / batch
    gradients = sum(job.lesions) * job.samples
    host = 1e-6 * gradients * (host_us or 0)
    return {
        "field": job.field,
        "how": f"predicted for {target.name}",
        "gradients": gradients,
        "linearised": job.samples * visits.windows,
        "pull_backs": job.samples * visits.pull_backs,
        "batch": batch,
        "gflop": pull_back["gflop"] / batch,
        "mbyte": 1000 * pull_back["gbyte"] / batch,
        "at_peak_s": job.samples * seconds,
        "host_us_per_gradient": host_us,
        "host_s": host,
        "scan_s": job.samples * seconds / share + host,
    }


def peaks_of(target: Target, precision: str) -> Ceilings:
    """As its maker publishes them; of this machine's CPU, measured."""
    if target.flops is None:
        return measure_ceilings(precision)
    return Ceilings(precision, target.flops[precision], target.bandwidth)


def host_microseconds(results: Sequence[Found], field: str) -> float | None:
    """Of the host per gradient of the paper's scan, by the newest result of ``host``; or None."""
    found = [result for result in results if result["question"] == "host"]
    for result in sorted(found, key=lambda result: str(result["finished"]), reverse=True):
        for row in result["rows"]:
            if row["case"].startswith("planning 48 lesions") and row["case"].endswith(field):
                return float(row["host_us_per_gradient"])
    return None


def notes_on(target: Target, share: float) -> list[str]:
    """What a forecast takes for granted."""
    source = target.source or "a large matrix product and a large copy, measured in the same run"
    return [
        "predicted: operations and bytes of the programs as compiled for the device, at the batch "
        "that the memory plan chooses; gflop and mbyte: of one pull-back.",
        f"at peak: each program takes as long as its operations or its bytes do at the peak, "
        f"whichever is longer ({source}). The scan is taken to run at {share:g} of that speed, "
        "which is an assumption, not a measurement.",
        "each window is linearised once per noise sample; each voxel is pulled back once from each "
        "window that reaches it, through boxes of the common size; noise, sums and maxima count as "
        "nothing.",
        "host: planning, by the newest result of host on any machine, 0 for lack of one; added to "
        "the device's time, though they overlap.",
    ]


def _compiled(model: Model, window: Triple, target: Target, kept: Path | None) -> dict[str, Row]:
    """What the compiler makes of each program of the faster exact derivative."""
    device, config = target.abstract(), model.config
    side = window[0]
    if window != (side,) * 3:
        raise InputError(f"programs are compiled ahead for cubes, not for windows of {window}")
    network = PaperNetwork("", config.kind, config.to_arguments(), ("", "", ""), window)
    with tracing_for(device):
        case = next(cases(network, model.precision, side))
        programs = case.programs(case.planned_batch(target), _PROGRAMS)
        return {program.name: _figures(program, model, target, kept) for program in programs}


def _figures(program: Planned, model: Model, target: Target, kept: Path | None) -> Row:
    figures = figures_of(program, model.precision, target, target.abstract(), kept)
    if "failed" in figures:
        raise InputError(f"{program.name} does not compile for {target.name}: {figures['failed']}")
    return {"batch": program.batch, **figures}


def _least(program: Row, peaks: Ceilings) -> float:
    """Seconds of a program at the peak of operations or bytes."""
    return max(1e9 * program["gflop"] / peaks.flops, 1e9 * program["gbyte"] / peaks.bytes)
