"""What does closed-form Grad-CAM++ of all lesions of a scan cost, in passes through its windows?

Through the sliding field, against one forward and one backward pass of each window that a lesion's
logits come from: the least that any program takes that visits each of them once.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from statistics import median
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxsal
from bench.case import TARGET, Case, make_case
from bench.compiling import timed_apart
from bench.nets import UNET
from bench.options import base_job, job_settings, timed
from bench.patient import patient_case
from bench.record import Result, Row
from jaxsal.field import LogitField
from jaxsal.saliency.gradcam.head import Head

_ALL = 1000  # more lesions than a scan has


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the benchmark's options."""
    parser.add_argument("--patient", default="07")
    parser.add_argument("--layers", nargs="+", default=list(UNET.layers))


def run(options: argparse.Namespace) -> Result:
    """Measures."""
    job = replace(base_job(options), samples=1)
    if options.toy:
        case, name = make_case(job), "random images"
        layers = ["bottleneck"]
    else:
        case, name = patient_case(job, options.shared, options.patient, (1,) * _ALL)
        layers = options.layers
    field = jaxsal.sliding_window(case.model, job.roi)
    windows = _windows(field, case)
    backward_s = _passes(case, job.roi, None)
    rows = [_row(layer, case, field, windows, backward_s, job.roi) for layer in layers]
    notes = [
        f"all {len(case.lesions)} lesions of {name}; {windows} windows of "
        f"{'×'.join(map(str, job.roi))} reach them.",
        "pass: a forward and a backward pass of one window, median of five: down to the layer, and "
        "down to the image; ratios: of the scan's seconds to those of such passes of all windows.",
        "seconds are without compilation.",
    ]
    return Result("gradcam_scan", job_settings(job) | {"patient": name}, rows, notes)


def _row(
    layer: str,
    case: Case,
    field: LogitField,
    windows: int,
    to_image_s: float,
    roi: tuple[int, ...],
) -> Row:
    to_layer_s = _passes(case, roi, layer)
    _, seconds, compiling = timed_apart(
        lambda: jaxsal.gradcam_plus_plus(
            case.model, case.image, case.labels, layer=layer, target=TARGET, field=field
        )
    )
    return {
        "layer": layer,
        "lesions": len(case.lesions),
        "windows": windows,
        "seconds": seconds,
        "compile_s": compiling,
        "pass_to_layer_s": to_layer_s,
        "pass_to_image_s": to_image_s,
        "times_passes_to_layer": seconds / (windows * to_layer_s),
        "times_passes_to_image": seconds / (windows * to_image_s),
    }


def _windows(field: LogitField, case: Case) -> int:
    """How many windows the lesions' logits come from."""
    x, y, z, _ = case.image.shape
    voxels = np.concatenate(list(case.lesions.values()))
    return len(field.layer_plan((x, y, z), voxels).starts)


def _passes(case: Case, roi: tuple[int, ...], layer: str | None) -> float:
    """Seconds of a forward and a backward pass of one window, down to a layer or the image."""
    model = case.model
    window = jnp.asarray(case.image[tuple(map(slice, roi))])
    domain = jnp.zeros((1, *roi)).at[(0, *(n // 2 for n in roi))].set(1)

    def to_layer(layer: str) -> jax.Array:
        head = Head(model.function, layer, TARGET)
        _, linearised = head.linearise(model.parameters, window)
        return head.gradients(linearised, domain)

    @jax.jit
    def gradient(parameters: Any, window: jax.Array, domain: jax.Array) -> jax.Array:
        def total(window: jax.Array) -> jax.Array:
            return jnp.vdot(model.function(parameters, window[None])[0, ..., TARGET], domain[0])

        return jax.grad(total)(window)

    def once() -> jax.Array:
        return gradient(model.parameters, window, domain) if layer is None else to_layer(layer)

    once()
    return median(timed(once)[1] for _ in range(5))
