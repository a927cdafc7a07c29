"""``python -m bench``: lists the questions; ``python -m bench NAME`` answers one."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from functools import partial
from importlib import import_module
from types import ModuleType

# PyTorch needs some of a GPU's memory too, and so do the processes that are started.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

QUESTIONS = (
    "peers",
    "networks",
    "families",
    "scaling",
    "agreement",
    "precision",
    "approximations",
    "devices",
    "compilation",
    "compile",
    "roofline",
    "paper_scan",
    "host",
    "gradcam",
    "gradcam_scan",
    "occlusion",
    "derivative_modes",
    "cohort_overhead",
    "cohort_memory",
    "shape_memory",
    "cohort_resume",
    "cohort_page",
    "training",
)

GPU = {  # meant to take less than ten minutes
    "agreement": (),
    "paper_scan": ("--fields", "whole"),
    "networks": ("--windows", "96"),
    "precision": (),
    "cohort_overhead": ("--rounds", "1"),
}


def _series() -> dict[str, dict[str, tuple[str, ...]]]:
    """The arguments of each question of each series."""
    return {"all": dict.fromkeys(QUESTIONS, ()), "gpu": dict(GPU)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a benchmark, a series of them, or the drawing of their results."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] in ("-h", "--help"):
        print(_overview())
        return 0
    name, rest = given[0], given[1:]
    if name not in (*QUESTIONS, *_series(), "plot"):
        print(f"there is no benchmark {name!r}\n\n{_overview()}", file=sys.stderr)
        return 2
    _prepare_jax()
    if name == "gpu" and not {"--toy", "-h", "--help"} & {*rest} and _computes_on_cpu():
        print("there is no GPU here; --toy tries the series on a CPU", file=sys.stderr)
        return 2
    failures = _run(name, rest)
    for failure in failures:
        print(f"FAILED {failure}", file=sys.stderr)
    return 1 if failures else 0


def _prepare_jax() -> None:
    """As the command line does it: all cores, and compiled programs kept."""
    from jaxsal.compilation import keep_compiled_programs
    from jaxsal.devices import split_cpu

    split_cpu()
    keep_compiled_programs()


def _computes_on_cpu() -> bool:
    from jaxsal.current_device import current_device

    return current_device().platform == "cpu"


def _run(name: str, arguments: Sequence[str]) -> list[str]:
    """What failed."""
    from bench.series import run_series

    failures: list[str] = []
    if name in QUESTIONS:
        return _alone(name, arguments)
    if name in _series():
        answer = partial(_answer, among_others=True)
        failures = run_series(name, _series()[name], answer, arguments)
    if not {"--toy", "--out"} & {*arguments}:
        from bench.readme import redraw

        redraw()
    return failures


def _alone(question: str, arguments: Sequence[str]) -> list[str]:
    from jaxsal.errors import JaxsalError

    try:
        return [f"{question}: {f}" for f in _answer(question, arguments, among_others=False)]
    except JaxsalError as error:
        raise SystemExit(f"python -m bench {question}: error: {error}") from error


def _answer(question: str, arguments: Sequence[str], *, among_others: bool) -> list[str]:
    """Measures, prints and writes; returns what it found to be wrong."""
    from bench.options import add_common, results_folder
    from jaxsal.accelerators import warn_of_unused

    module = _module(question)
    parser = argparse.ArgumentParser(
        prog=f"python -m bench {question}", description=_line(module), allow_abbrev=False
    )
    add_common(parser)
    module.add_options(parser)
    options, unknown = parser.parse_known_args(arguments)
    if (
        unknown and not among_others
    ):  # a series takes the options of each, which passes over others'
        parser.error(f"not expected: {' '.join(unknown)}")
    result = module.run(options)
    warn_of_unused()  # not before, as processes that were started may need the device
    result.show()
    print(f"written to {result.write(results_folder(options))}\n")
    faults: list[str] = result.faults
    return faults


def _module(question: str) -> ModuleType:
    return import_module(f"bench.{question}")


def _line(module: ModuleType) -> str:
    return (module.__doc__ or "").strip().splitlines()[0]


def _overview() -> str:
    lines = [f"  {name:17} {_line(_module(name))}" for name in QUESTIONS]
    return "\n".join(
        [
            "python -m bench NAME [options]; NAME --help lists its options",
            "",
            *lines,
            f"  {'all':17} All of them, and then the plot.",
            f"  {'gpu':17} What to check and measure first on a GPU: {', '.join(GPU)}.",
            f"  {'plot':17} Draws the plots and the tables of bench/README.md from the results.",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
