"""What a compiler makes of one program: operations, bytes, memory, and the time at the peak."""

from __future__ import annotations

import re
import time
from pathlib import Path

import jax
from jax.sharding import SingleDeviceSharding
from jax.stages import Lowered

from bench.ahead import Planned
from bench.hlo import Cost, Program
from bench.record import Row
from bench.targets import Target
from bench.verdicts import Verdict, kept_verdict, verdict_on
from jaxsal.compilation import CompilerOptions, compiler_options

_COUNTED = {
    "gathers": "gather",
    "scatters": "scatter",
    "transposes": "transpose",
    "copies": "copy",
}
_LONGEST_REASON = 200  # letters


def figures_of(
    program: Planned, precision: str, target: Target, device: jax.Device, kept: Path | None = None
) -> Row:
    """What the compiler makes of a program, which is traced for the device; or how it fails.

    Args:
        program: to be compiled.
        precision: of the peak that its operations are set against.
        target: what it is compiled for.
        device: the same, for the compiler.
        kept: a folder with verdicts of earlier runs, to which this one's are added.
    """
    before = time.perf_counter()
    options = compiler_options(device.platform)
    try:
        verdict = verdict_on(_lowered(program, device, options), target.name, options, kept)
    except jax.errors.JaxRuntimeError as error:
        return {"compile_s": time.perf_counter() - before, "failed": _reason(error)}
    return _figures(verdict, program, precision, target)


def kept_figures(
    program: Planned, precision: str, target: Target, device: jax.Device, kept: Path | None
) -> Row | None:
    """As `figures_of`, if the folder holds what they follow from."""
    if kept is None:
        return None
    options = compiler_options(device.platform)
    verdict = kept_verdict(_lowered(program, device, options), target.name, options, kept)
    return None if verdict is None else _figures(verdict, program, precision, target)


def _figures(verdict: Verdict, program: Planned, precision: str, target: Target) -> Row:
    text = Program(verdict.text)
    cost = _cost(verdict, text.cost, target)
    return {
        "compile_s": verdict.seconds,
        "gflop": cost.flop / 1e9,
        "gbyte": cost.moved / 1e9,
        **_per_gradient(program, cost),
        **_memory(verdict, program),
        **{column: text.counts[name] for column, name in _COUNTED.items()},
        **_speed(text, cost, precision, target),
    }


def _lowered(program: Planned, device: jax.Device, options: CompilerOptions | None) -> Lowered:
    there = SingleDeviceSharding(device)
    arguments = jax.tree.map(
        lambda each: jax.ShapeDtypeStruct(each.shape, each.dtype, sharding=there),
        program.arguments,
    )
    return jax.jit(program.function, compiler_options=options).lower(*arguments)


def _cost(verdict: Verdict, counted: Cost, target: Target) -> Cost:
    """On a CPU as the compiler says, elsewhere by our own count."""
    if target.platform != "cpu":
        return counted
    return Cost(verdict.flop, verdict.moved, counted.cycles)


def _per_gradient(program: Planned, cost: Cost) -> Row:
    if not program.name.startswith("pull_back"):
        return {}
    return {"mbyte_per_gradient": cost.moved / 1e6 / program.batch}


def _memory(verdict: Verdict, program: Planned) -> Row:
    taken = verdict.temporary + (verdict.results if program.counts_results else 0)
    figures = {"temporary_mib": taken / 2**20}
    if program.planned is None:
        return figures
    return figures | {
        "planned_mib": program.planned / 2**20,
        "planned_per_compiled": program.planned / max(taken, 1),
    }


def _speed(text: Program, cost: Cost, precision: str, target: Target) -> Row:
    """What a device of this kind would take at best, and by its compiler."""
    figures: Row = {}
    if target.platform == "gpu":
        figures["escaped_convolutions"] = len(text.escaped_convolutions())
    if target.flops:
        figures["peak_ms"] = 1000 * max(
            cost.flop / target.flops[precision], cost.moved / target.bandwidth
        )
    if cost.cycles and target.clock:
        figures["estimated_ms"] = 1000 * cost.cycles / target.clock
    return figures


def _reason(error: Exception) -> str:
    return re.sub(r"\s+", " ", str(error))[:_LONGEST_REASON]
