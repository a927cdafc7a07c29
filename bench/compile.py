"""What do the compilers for GPUs and TPUs make of the programs? The device need not be here."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.ahead import PROGRAMS, Case, Planned, cases
from bench.case import TINY_UNET
from bench.compiled_figures import figures_of, kept_figures
from bench.nets import PAPER_NETWORKS, PaperNetwork
from bench.patience import Patient
from bench.record import Result, Row, describe_machine, steering_variables
from bench.targets import TARGETS, Target
from bench.verdicts import add_kept_option
from jaxsal.current_device import tracing_for
from jaxsal.settings import PRECISIONS

KINDS = ("local", "dense")
_TOY = PaperNetwork("toy U-Net", "unet", TINY_UNET, ("", "", ""), (4, 4, 4))


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
    parser.add_argument(
        "--timeout",
        type=_seconds,
        metavar="S",
        help="seconds after which a program is given up, its tracing included, which the table "
        "says; default: never",
    )
    add_kept_option(parser)


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
    with tracing_for(device), _compiling(target, options.timeout) as compiling:
        for network in networks:
            for precision in precisions:
                for case in cases(network, precision, side):
                    if case.kind in options.derivatives:
                        rows += _rows(network, case, compiling, target, options)
    chosen = ("target", "networks", "derivatives", "programs", "toy")
    settings = {name: getattr(options, name) for name in chosen}
    settings |= {"precisions": precisions, "window": side, "batch": options.batch or "plan"}
    settings["timeout"] = options.timeout
    notes, machine = _notes(target), target.described(describe_machine())
    return Result("compile", settings, rows, notes, machine=machine, environment=environment)


def _batch(text: str) -> int | None:
    if text == "plan":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError("takes a number of gradients, or plan")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError("takes a positive number of seconds")
    return seconds


@dataclass(frozen=True)
class _Asked:
    """One program, for a process that compiles it; see `bench.ahead.Case`."""

    network: PaperNetwork
    precision: str
    side: int
    kind: str
    program: str
    batch: int
    target: str
    kept: Path | None


def _found(asked: _Asked) -> Row:
    target = TARGETS[asked.target]
    device = target.abstract()
    with tracing_for(device):
        found = cases(asked.network, asked.precision, asked.side)
        case = next(case for case in found if case.kind == asked.kind)
        programs = case.programs(asked.batch, PROGRAMS)
        program = next(program for program in programs if program.name == asked.program)
        return figures_of(program, asked.precision, target, device, asked.kept)


_Compiling = Callable[[_Asked, Planned], Row]


@contextmanager
def _compiling(target: Target, timeout: float | None) -> Iterator[_Compiling]:
    """What compiles a program, here or where it can be given up."""
    device = target.abstract()

    def here(asked: _Asked, program: Planned) -> Row:
        return figures_of(program, asked.precision, target, device, asked.kept)

    if timeout is None:
        yield here
        return
    with Patient[_Asked, Row](_found, timeout) as patient:

        def there(asked: _Asked, program: Planned) -> Row:
            known = kept_figures(program, asked.precision, target, device, asked.kept)
            try:
                return known or patient(asked)
            except TimeoutError:
                return {"failed": f"not compiled within {timeout:g} s"}
            except EOFError:
                return {"failed": "the compiler's process ended: see above, or too little memory"}

        yield there


def _rows(
    network: PaperNetwork,
    case: Case,
    compiling: _Compiling,
    target: Target,
    options: argparse.Namespace,
) -> list[Row]:
    batch = options.batch or case.planned_batch(target)
    precision, side = case.function.precision, case.windows[1]
    rows = []
    for program in case.programs(batch, options.programs):
        asked = (network, precision, side, case.kind, program.name, batch, target.name)
        row = {
            "network": case.network,
            "precision": precision,
            "derivative": case.kind,
            "program": program.name,
            "batch": program.batch,
            **compiling(_Asked(*asked, options.kept), program),
        }
        print(", ".join(f"{name} {value}" for name, value in row.items()), flush=True)
        rows.append(row)
    return rows


def _notes(target: Target) -> list[str]:
    notes = [
        "compiled for one window and noise sample; compile s: by the clock, with whatever else the "
        "machine did.",
        "batch: gradients at once, by default as many as the memory plan chooses.",
        "temporary: bytes besides the arguments, of linearise and pull_back with their results; "
        "planned: what the memory plan reckons for it.",
        "gathers, scatters, transposes, copies: in the text, within fusions too.",
    ]
    if target.flops:
        notes.append(
            f"peak ms: at the published peak of operations or bytes, whichever is slower: "
            f"{_peaks(target)}; {target.source}."
        )
    if target.platform != "cpu":
        notes.append(
            "operations and bytes are counted from the text, a loop's body as often as it runs; "
            "a TPU's bytes in whole tiles and without what lies on its chip, operations with the "
            "zeros that blocks of voxels are filled up with."
        )
    if target.platform == "gpu":
        notes += [
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
