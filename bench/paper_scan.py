"""How long does a whole scan take in the paper's setting: 48 lesions × 93 voxels, N = 50?

In full on a GPU; on a CPU a part of it, and the rest by proportion.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp

import jaxsal
from bench.case import TARGET, Job, make_field, make_model
from bench.options import base_job, job_settings, timed
from bench.record import Result, Row
from jaxsal.scan.calibration import synthetic_scan

_LESIONS, _VOXELS, _SAMPLES = 48, 93, 50


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the benchmark's options."""
    parser.add_argument("--full", action="store_true", help="in full on a CPU, too")


def run(options: argparse.Namespace) -> Result:
    """Measures."""
    job = base_job(options)
    if not options.toy:
        full = options.full or jax.default_backend() != "cpu"
        lesions, samples = (_LESIONS, _SAMPLES) if full else (1, 1)
        job = replace(job, lesions=(_VOXELS,) * lesions, samples=samples)
    rows = [_row(replace(job, field=field)) for field in ("whole", "sliding")]
    notes = [
        f"the scan has {_LESIONS} lesions of {_VOXELS} voxels and {_SAMPLES} noise samples; "
        "where the share is below 1, its time is the measured one divided by the share.",
    ]
    return Result("paper_scan", job_settings(job), rows, notes)


def _row(job: Job) -> Row:
    model = make_model(job)
    field = make_field(model, job.field, job.roi)
    _maps(field, replace(job, lesions=job.lesions[:1]), len(model.channels))
    _, seconds = timed(lambda: _maps(field, job, len(model.channels)))
    gradients = sum(job.lesions) * job.samples
    share = gradients / (_LESIONS * _VOXELS * _SAMPLES)
    return {
        "field": job.field,
        "gradients": gradients,
        "share_of_the_scan": share,
        "measured_s": seconds,
        "ms_per_gradient": 1000 * seconds / gradients,
        "scan_s": seconds / share,
        "scan_h": seconds / share / 3600,
    }


def _maps(field: Any, job: Job, channels: int) -> jaxsal.SaliencyMaps:
    image, labels = synthetic_scan(job.shape, channels, job.lesions, job.seed)
    options: dict[str, Any] = {"target": TARGET, "samples": job.samples, "seed": job.seed}
    return jaxsal.smoothgrad(field, jnp.asarray(image), labels, **options)
