"""How long does a whole scan take in the paper's setting: 48 lesions × 93 voxels, N = 50?

Measured in full on an accelerator; on a CPU a part of it, and the rest by proportion. ``--target
h100``: predicted for a device that need not be here, from the programs as they are compiled for it,
and measured as well where it is here.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp

import jaxsal
from bench.case import TARGET, Job, as_part_of_a_scan, make_field, make_model
from bench.ceilings import SHARES_NOTE, Ceilings, measure_ceilings
from bench.forecast import forecast, host_microseconds, notes_on
from bench.options import base_job, job_settings, timed
from bench.record import (
    Result,
    Row,
    describe_machine,
    every_result,
    read_results,
    steering_variables,
)
from bench.targets import TARGETS, Target
from bench.verdicts import add_kept_option
from bench.visits import work_of
from jaxsal.scan.calibration import synthetic_scan

_LESIONS, _VOXELS, _SAMPLES = 48, 93, 50
_FIELDS = ("whole", "sliding")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the benchmark's options."""
    parser.add_argument("--full", action="store_true", help="in full on a CPU, too")
    parser.add_argument("--fields", nargs="+", choices=_FIELDS, default=[*_FIELDS])
    parser.add_argument("--target", choices=TARGETS, help="a device to predict for")
    parser.add_argument(
        "--share",
        type=float,
        default=0.3,
        help="of its peak that programs are taken to reach there; default: %(default)s",
    )
    add_kept_option(parser)


def run(options: argparse.Namespace) -> Result:
    """Measures, predicts, or both."""
    environment = steering_variables()  # before a compiler adds its own
    target = TARGETS[options.target] if options.target else None
    job = base_job(options)
    if not options.toy:
        job = replace(job, lesions=(_VOXELS,) * _LESIONS, samples=_SAMPLES)
    machine, settings = describe_machine(), job_settings(job)
    rows: list[Row] = []
    notes: list[str] = []
    if target is not None:
        settings |= {"target": target.name, "share": options.share}
        _predict(job, target, options, rows, notes)
    if target is None or target.is_here:
        settings |= _measure(job, options, rows, notes).settings
    else:
        machine = target.described(machine)
    return Result("paper_scan", settings, rows, notes, machine=machine, environment=environment)


def _predict(
    job: Job, target: Target, options: argparse.Namespace, rows: list[Row], notes: list[str]
) -> None:
    """Adds what is predicted."""
    results = every_result(read_results())
    for field in options.fields:
        host_us = host_microseconds(results, field)
        scan = replace(job, field=field)
        rows.append(forecast(scan, target, options.share, host_us, options.kept))
    notes += notes_on(target, options.share)


def _measure(job: Job, options: argparse.Namespace, rows: list[Row], notes: list[str]) -> Ceilings:
    """Adds what is measured."""
    if not options.toy and not options.full and jax.default_backend() == "cpu":
        job = replace(job, lesions=job.lesions[:1], samples=1)
    ceilings = measure_ceilings(job.precision, toy=options.toy)
    with as_part_of_a_scan():
        rows += [_row(replace(job, field=field), ceilings) for field in options.fields]
    notes += [
        f"the scan has {_LESIONS} lesions of {_VOXELS} voxels and {_SAMPLES} noise samples; "
        "where the share is below 1, its time is the measured one divided by the share.",
        SHARES_NOTE + " Of a gradient, its share of the windows' forward passes included.",
        ceilings.note,
    ]
    return ceilings


def _row(job: Job, ceilings: Ceilings) -> Row:
    model = make_model(job)
    field = make_field(model, job.field, job.roi)
    _maps(field, replace(job, lesions=job.lesions[:1]), len(model.channels))
    _, seconds = timed(lambda: _maps(field, job, len(model.channels)))
    gradients = sum(job.lesions) * job.samples
    share = gradients / (_LESIONS * _VOXELS * _SAMPLES)
    return {
        "field": job.field,
        "how": "measured",
        "gradients": gradients,
        "share_of_the_scan": share,
        "measured_s": seconds,
        "ms_per_gradient": 1000 * seconds / gradients,
        "scan_s": seconds / share,
        "scan_h": seconds / share / 3600,
        **ceilings.shares(work_of(job, model), seconds / gradients),
    }


def _maps(field: Any, job: Job, channels: int) -> jaxsal.SaliencyMaps:
    image, labels = synthetic_scan(job.shape, channels, job.lesions, job.seed)
    options: dict[str, Any] = {"target": TARGET, "samples": job.samples, "seed": job.seed}
    return jaxsal.smoothgrad(field, jnp.asarray(image), labels, **options)
