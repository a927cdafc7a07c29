"""What do the compilers for GPUs and TPUs make of the programs? The device need not be here."""

from __future__ import annotations

import argparse
import re
import time
from typing import Any

import jax
from jax.sharding import SingleDeviceSharding
from jax.stages import Compiled

from bench.ahead import PROGRAMS, Case, Planned, cases
from bench.case import TINY_UNET
from bench.hlo import Cost, Program
from bench.nets import PAPER_NETWORKS, PaperNetwork
from bench.record import Result, Row, describe_machine, steering_variables
from bench.targets import TARGETS, Target
from jaxsal.compilation import compiler_options
from jaxsal.current_device import tracing_for
from jaxsal.settings import PRECISIONS

KINDS = ("local", "dense")
_TOY = PaperNetwork("toy U-Net", "unet", TINY_UNET, ("", "", ""), (4, 4, 4))
_COUNTED = {
    "gathers": "gather",
    "scatters": "scatter",
    "transposes": "transpose",
    "copies": "copy",
}
_LONGEST_REASON = 200  # letters


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the benchmark's options."""
    parser.add_argument("--target", choices=TARGETS, default="cpu")
    parser.add_argument("--networks", nargs="+", choices=PAPER_NETWORKS, default=[*PAPER_NETWORKS])
    parser.add_argument("--derivatives", nargs="+", choices=KINDS, default=[*KINDS])
    parser.add_argument("--programs", nargs="+", choices=PROGRAMS, default=[*PROGRAMS])
    parser.add_argument(
        "--precisions", nargs="+", choices=PRECISIONS, help="several; default: that of --precision"
    )
    parser.add_argument("--window", type=int, default=96, help="side; default: %(default)s voxels")
    parser.add_argument(
        "--batch",
        type=_batch,
        metavar="N",
        help="gradients at once; default: plan, as many as the memory plan chooses",
    )


def run(options: argparse.Namespace) -> Result:
    """Compiles."""
    target = TARGETS[options.target]
    precisions = options.precisions or [options.precision]
    for precision in precisions:
        target.require(precision)
    environment = steering_variables()  # before libtpu adds its own
    device = target.abstract()
    networks = [_TOY] if options.toy else [PAPER_NETWORKS[key] for key in options.networks]
    side = 16 if options.toy else options.window
    rows = []
    with tracing_for(device):
        for network in networks:
            for precision in precisions:
                for case in cases(network, precision, side):
                    if case.kind in options.derivatives:
                        rows += _rows(case, target, device, options)
    chosen = ("target", "networks", "derivatives", "programs", "toy")
    settings = {name: getattr(options, name) for name in chosen}
    settings |= {"precisions": precisions, "window": side, "batch": options.batch or "plan"}
    notes, machine = _notes(target), target.described(describe_machine())
    return Result("compile", settings, rows, notes, machine=machine, environment=environment)


def _batch(text: str) -> int | None:
    if text == "plan":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError("takes a number of gradients, or plan")
    return int(text)


def _rows(case: Case, target: Target, device: jax.Device, options: argparse.Namespace) -> list[Row]:
    batch = options.batch or case.planned_batch(target)
    rows = []
    for program in case.programs(batch, options.programs):
        row = {
            "network": case.network,
            "precision": case.function.precision,
            "derivative": case.kind,
            "program": program.name,
            "batch": program.batch,
            **figures_of(program, case.function.precision, target, device),
        }
        print(", ".join(f"{name} {value}" for name, value in row.items()), flush=True)
        rows.append(row)
    return rows


def figures_of(program: Planned, precision: str, target: Target, device: jax.Device) -> Row:
    """What the compiler makes of a program, which is traced for the device; or how it fails."""
    before = time.perf_counter()
    try:
        compiled = _compiled(program, device)
    except jax.errors.JaxRuntimeError as error:
        return {"compile_s": time.perf_counter() - before, "failed": _reason(error)}
    seconds = time.perf_counter() - before
    text = Program(compiled.as_text() or "")
    cost = _cost(compiled, text.cost)
    return {
        "compile_s": seconds,
        "gflop": cost.flop / 1e9,
        "gbyte": cost.moved / 1e9,
        **_memory(compiled, program),
        **{column: text.counts[name] for column, name in _COUNTED.items()},
        **_speed(text, cost, precision, target),
    }


def _compiled(program: Planned, device: jax.Device) -> Compiled:
    there = SingleDeviceSharding(device)
    arguments = jax.tree.map(
        lambda each: jax.ShapeDtypeStruct(each.shape, each.dtype, sharding=there),
        program.arguments,
    )
    asked = compiler_options(device.platform)
    return jax.jit(program.function, compiler_options=asked).lower(*arguments).compile()


def _cost(compiled: Compiled, counted: Cost) -> Cost:
    """By the compiler where it says, else by our own count."""
    said = compiled.cost_analysis() or {}
    if said.get("flops", 0) <= 0:
        return counted
    return Cost(said["flops"], said["bytes accessed"], counted.cycles)


def _memory(compiled: Compiled, program: Planned) -> Row:
    memory: Any = compiled.memory_analysis()
    taken = memory.temp_size_in_bytes
    if program.counts_results:
        taken += memory.output_size_in_bytes - memory.alias_size_in_bytes
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


def _notes(target: Target) -> list[str]:
    notes = [
        "compiled for one window and noise sample; batch: gradients at once, by default as many as "
        "the memory plan chooses.",
        "temporary: bytes besides the arguments, of linearise and pull_back with their results; "
        "planned: what the memory plan reckons for it.",
        "gathers, scatters, transposes, copies: in the text, within fusions too.",
    ]
    if target.flops:
        notes.append(
            f"peak ms: at the published peak of operations or bytes, whichever is slower: "
            f"{_peaks(target)}; {target.source}."
        )
    if target.platform == "gpu":
        notes += [
            "operations and bytes are counted from the text: the compiler does not tell them.",
            "escaped convolutions: not computed by cuDNN, or by a dilated kernel.",
            "algorithms are not chosen by timing without the device: they, and the workspace of "
            "convolutions, can differ on a real one.",
        ]
    if target.clock:
        notes.append(
            "estimated ms: the compiler's estimate of cycles; what it estimates nothing for is "
            f"left out; at {target.clock / 1e9:.4g} GHz."
        )
    return notes


def _peaks(target: Target) -> str:
    peaks = [f"{name} {rate / 1e12:.4g} TFLOP/s" for name, rate in (target.flops or {}).items()]
    return ", ".join([*peaks, f"{target.bandwidth / 1e9:.5g} GB/s"])
