"""How close to the device's limits does a voxel's pull-back come?

Operations and bytes are counted from the architecture, for the cells that a single voxel's
gradient reaches; the ceilings are those of a large matrix product and a large copy, measured here.
"""

from __future__ import annotations

import argparse
from functools import partial

from bench.case import make_field, make_model
from bench.ceilings import WIDTHS, measure_ceilings
from bench.options import base_job, job_settings
from bench.receptive import Cost, pull_back_costs
from bench.record import Result, Row
from jaxsal.saliency.smoothgrad import smoothgrad
from jaxsal.scan.calibration import measure_throughput


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the benchmark's options."""
    parser.add_argument(
        "--batch", type=int, default=32, help="pull-backs that share a reading of the weights"
    )


def run(options: argparse.Namespace) -> Result:
    """Measures."""
    job = base_job(options)
    model = make_model(job)
    ceilings = measure_ceilings(job.precision, toy=options.toy)
    operations, traffic = ceilings.flops, ceilings.bytes
    least = 0.0 if options.toy else 5.0
    field = make_field(model, job.field, job.roi)
    speed = measure_throughput(
        partial(smoothgrad, field), job.shape, len(model.channels), least_seconds=least
    )
    width = WIDTHS[job.precision]
    rows = [
        _row(cost, options.batch, width, operations, traffic)
        for cost in pull_back_costs(model.config)
    ]
    rows.append(_total(rows, 1 / speed.gradients_per_second, operations, traffic))
    settings = job_settings(job) | {"batch": options.batch} | ceilings.settings
    notes = [
        ceilings.note,
        "averages over a voxel's position; gradients in and out and the kept activation pass "
        "through memory once per layer, weights once per batch.",
        "the measured time includes forward passes, maxima and noise.",
    ]
    return Result("roofline", settings, rows, notes)


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
        "share_of_peak": 1e6 * mflop / seconds / operations,
        "share_of_bandwidth": 1e6 * mbyte / seconds / traffic,
        "share_of_roofline": least / (1000 * seconds),
    }
