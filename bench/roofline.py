"""How close to the device's limits does a voxel's pull-back come?

Operations and bytes are counted from the architecture, for the cells that a single voxel's
gradient reaches; the ceilings are those of a large matrix product and a large copy, measured here.
"""

from __future__ import annotations

import argparse
from functools import partial

import jax
import jax.numpy as jnp

from bench.case import make_field, make_model
from bench.options import base_job, job_settings, timed
from bench.receptive import Cost, pull_back_costs
from bench.record import Result, Row
from jaxsal.nets.registry import MATMUL_PRECISION
from jaxsal.saliency.smoothgrad import smoothgrad
from jaxsal.scan.calibration import measure_throughput

_BYTES = {"float32": 4, "tf32": 4, "bfloat16x3": 4, "bfloat16": 2}
_REPEATS = 5


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the benchmark's options."""
    parser.add_argument(
        "--batch", type=int, default=32, help="pull-backs that share a reading of the weights"
    )


def run(options: argparse.Namespace) -> Result:
    """Measures."""
    job = base_job(options)
    model = make_model(job)
    operations = matrix_product_rate(256 if options.toy else 4096, job.precision)
    traffic = copy_rate(2**20 if options.toy else 2**28)
    least = 0.0 if options.toy else 5.0
    field = make_field(model, job.field, job.roi)
    speed = measure_throughput(
        partial(smoothgrad, field), job.shape, len(model.channels), least_seconds=least
    )
    width = _BYTES[job.precision]
    rows = [
        _row(cost, options.batch, width, operations, traffic)
        for cost in pull_back_costs(model.config)
    ]
    rows.append(_total(rows, 1 / speed.gradients_per_second, operations, traffic))
    settings = job_settings(job) | {
        "batch": options.batch,
        "gflop_per_s": operations / 1e9,
        "gbyte_per_s": traffic / 1e9,
    }
    notes = [
        f"ceilings: {operations / 1e9:.4g} GFLOP/s of a matrix product, {traffic / 1e9:.4g} GB/s "
        "of a copy.",
        "averages over a voxel's position; gradients in and out and the kept activation pass "
        "through memory once per layer, weights once per batch.",
        "the measured time includes forward passes, maxima and noise.",
    ]
    return Result("roofline", settings, rows, notes)


def matrix_product_rate(size: int, precision: str) -> float:
    """FLOP/s of a square matrix product."""
    dtype = jnp.bfloat16 if precision == "bfloat16" else jnp.float32
    matrix = jnp.ones((size, size), dtype)
    with jax.default_matmul_precision(MATMUL_PRECISION[precision]):
        product = jax.jit(lambda a: a @ a)
        timed(lambda: product(matrix))
        best = min(timed(lambda: product(matrix))[1] for _ in range(_REPEATS))
    return 2 * size**3 / best


def copy_rate(size: int) -> float:
    """Bytes per second, read and written, of a copy of this many numbers."""
    array = jnp.ones(size, jnp.float32)
    copy = jax.jit(lambda a: a + 1)
    timed(lambda: copy(array))
    best = min(timed(lambda: copy(array))[1] for _ in range(_REPEATS))
    return 2 * 4 * size / best


def _row(cost: Cost, batch: int, width: int, operations: float, traffic: float) -> Row:
    flops, transferred = 2 * cost.macs, width * (cost.values + cost.weights / batch)
    return {
        "layer": cost.name,
        "cells": cost.cells,
        "mflop": flops / 1e6,
        "mbyte": transferred / 1e6,
        "flop_per_byte": flops / transferred,
        "least_ms": 1000 * max(flops / operations, transferred / traffic),
    }


def _total(rows: list[Row], seconds: float, operations: float, traffic: float) -> Row:
    mflop, mbyte = (sum(row[name] for row in rows) for name in ("mflop", "mbyte"))
    least = 1000 * max(1e6 * mflop / operations, 1e6 * mbyte / traffic)
    return {
        "layer": "all",
        "mflop": mflop,
        "mbyte": mbyte,
        "flop_per_byte": mflop / mbyte,
        "least_ms": least,
        "measured_ms": 1000 * seconds,
        "share_of_roofline": least / (1000 * seconds),
    }
