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
from jaxsal.compilation import compiled
from jaxsal.field.plan import LogitField
from jaxsal.saliency.domains import Domain
from jaxsal.saliency.gradcam.parts import apart, box_of, parts_by_window
from jaxsal.saliency.gradcam.upper_network import UpperNetwork

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
    to_image_s = _passes(case, job.roi, None)
    parts = _parts(field, case)
    windows = len(parts)
    rows = [_row(layer, case, field, parts, to_image_s, job.roi) for layer in layers]
    notes = [
        f"all {len(case.lesions)} lesions of {name}; {windows} windows of "
        f"{'×'.join(map(str, job.roi))} reach them.",
        "pass: a forward and a backward pass of one window, median of five: down to the layer, and "
        "down to the image; ratios: of the scan's seconds to those of such passes of all windows.",
        "pull backs: backward passes that the lesions take, all windows together; those whose "
        "receptive fields in the layer lie apart share one. Seconds are without compilation.",
    ]
    return Result("gradcam_scan", job_settings(job) | {"patient": name}, rows, notes)


def _row(
    layer: str,
    case: Case,
    field: LogitField,
    parts: list[list[np.ndarray]],
    to_image_s: float,
    roi: tuple[int, ...],
) -> Row:
    to_layer_s, windows = _passes(case, roi, layer), len(parts)
    _, seconds, compiling = timed_apart(
        lambda: jaxsal.gradcam_plus_plus(
            case.model, case.image, case.labels, layer=layer, target=TARGET, field=field
        )
    )
    return {
        "layer": layer,
        "lesions": len(case.lesions),
        "windows": windows,
        "pull_backs": _pull_backs(case, roi, layer, parts),
        "seconds": seconds,
        "compile_s": compiling,
        "pass_to_layer_s": to_layer_s,
        "pass_to_image_s": to_image_s,
        "times_passes_to_layer": seconds / (windows * to_layer_s),
        "times_passes_to_image": seconds / (windows * to_image_s),
    }


def _parts(field: LogitField, case: Case) -> list[list[np.ndarray]]:
    """By window, the voxels in it (V, 3) of each lesion whose logits come from it."""
    x, y, z, _ = case.image.shape
    domains = [Domain(label, voxels) for label, voxels in case.lesions.items()]
    plan = field.layer_plan((x, y, z), np.concatenate(list(case.lesions.values())))
    return [[part.points for part in job.parts] for job in parts_by_window(plan, domains)]


def _pull_backs(case: Case, roi: tuple[int, ...], layer: str, parts: list[list[np.ndarray]]) -> int:
    """How many the lesions take: those whose boxes at the layer lie apart share one."""
    upper, parameters = UpperNetwork(case.model.function, layer, TARGET), case.model.parameters
    grid, _ = upper.shape(parameters, (*roi, case.image.shape[-1]))
    return sum(len(apart([box_of(upper, parameters, p, grid) for p in own])) for own in parts)


def _passes(case: Case, roi: tuple[int, ...], layer: str | None) -> float:
    """Seconds of a forward and a backward pass of one window, down to a layer or the image."""
    model = case.model
    window = jnp.asarray(case.image[tuple(map(slice, roi))])
    domain = jnp.zeros((1, *roi)).at[(0, *(n // 2 for n in roi))].set(1)

    def to_layer(layer: str) -> jax.Array:
        upper = UpperNetwork(model.function, layer, TARGET)
        _, linearised = upper.linearise(model.parameters, window)
        return upper.gradients(linearised, domain)

    @compiled
    def gradient(parameters: Any, window: jax.Array, domain: jax.Array) -> jax.Array:
        def total(window: jax.Array) -> jax.Array:
            return jnp.vdot(model.function(parameters, window[None])[0, ..., TARGET], domain[0])

        return jax.grad(total)(window)

    def once() -> jax.Array:
        return gradient(model.parameters, window, domain) if layer is None else to_layer(layer)

    once()
    return median(timed(once)[1] for _ in range(5))
