"""Options that the benchmarks share."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeVar

import jax

from bench.case import STANDARD, TOY, Job
from bench.record import RESULTS
from jaxsal.settings import PRECISIONS

_REPOSITORY = Path(__file__).resolve().parents[1]

T = TypeVar("T")


def add_common(parser: argparse.ArgumentParser) -> None:
    """What every benchmark takes."""
    parser.add_argument("--toy", action="store_true", help="seconds: a tiny network and volume")
    parser.add_argument(
        "--out",
        type=Path,
        help="folder for the JSON; default: bench/results, or its toy/ for --toy",
    )
    parser.add_argument(
        "--model",
        help="a model directory or a checkpoint of MONAI's UNet; default: random weights of the "
        "paper's U-Net",
    )
    parser.add_argument(
        "--shared",
        type=Path,
        default=_REPOSITORY.parent / "shared",
        help="folder with data/ and models/, used where present; default: %(default)s",
    )
    parser.add_argument("--precision", choices=PRECISIONS, default="float32")


def results_folder(options: argparse.Namespace) -> Path:
    """Where the common options have the JSON written."""
    chosen: Path | None = options.out
    return chosen or (RESULTS / "toy" if options.toy else RESULTS)


def base_job(options: argparse.Namespace, **changes: Any) -> Job:
    """The standard case, or the toy one, with the options' model and precision."""
    job = TOY if options.toy else STANDARD
    return replace(job, model=options.model, precision=options.precision, **changes)


def job_settings(job: Job) -> dict[str, Any]:
    """A job for the record."""
    return asdict(job)


def timed(compute: Callable[[], T]) -> tuple[T, float]:
    """A result and the seconds it took; arrays in it are waited for."""
    before = time.perf_counter()
    result = jax.block_until_ready(compute())
    return result, time.perf_counter() - before
