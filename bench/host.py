"""What does the engine cost beside computing: processor time of Python, dispatches, planning?

A network that computes next to nothing, over many small lesions in overlapping windows, so that all
that is left is what the engine adds; and the planning of the paper's scan, of which nothing is
computed.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import jax.numpy as jnp
import numpy as np

import jaxsal
from bench.case import PAPER_UNET, TARGET, TINY_UNET, Job, make_field, make_model
from bench.options import job_settings
from bench.record import Result, Row
from jaxsal.devices import default_devices
from jaxsal.field.plan import LogitField
from jaxsal.saliency.books import PullBack
from jaxsal.saliency.domains import Domain, labelled_domains
from jaxsal.saliency.items import items_of, voxel_groups
from jaxsal.saliency.layout import Layout, Work, layout_within_memory
from jaxsal.saliency.memory import GIB, default_budget
from jaxsal.saliency.memory_plan import ON_ACCELERATOR, fit, samples_at_once
from jaxsal.saliency.methods.smoothgrad import SmoothGradSettings
from jaxsal.saliency.noise import noisy_images
from jaxsal.saliency.programs import Programs
from jaxsal.saliency.schedule import Limits, Pairs, schedule
from jaxsal.scan.calibration import synthetic_scan

_NETWORK = TINY_UNET | {"channels": [2, 4]}
_JOB = Job((128, 128, 128), (80,) * 64, 50, "sliding", (32, 32, 32), network=_NETWORK)
_TOY = replace(_JOB, shape=(40, 40, 40), lesions=(4,) * 3, samples=2)
_SCAN = Job(lesions=(93,) * 48, samples=50, network=PAPER_UNET)
_SMALL = replace(_SCAN, lesions=(10,) * 3)
_WIDE, _BUDGET = 32, 64 * GIB  # gradients at once, and bytes, of a large GPU
_STARTED = ("noisy", "cut", "slots", "linearise", "pull_back", "merge", "finish")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the benchmark's options."""
    parser.add_argument(
        "--planning", action="store_true", help="only plan the paper's scan; nothing is computed"
    )


def run(options: argparse.Namespace) -> Result:
    """Measures."""
    job = _TOY if options.toy else _JOB
    rows = [] if options.planning else [_computed(job)]
    for scan in () if options.toy and not options.planning else (_SCAN, _SMALL):
        rows += [_planned(replace(scan, field=field)) for field in ("whole", "sliding")]
    notes = [
        "a gradient: one voxel at one noise sample; a pull-back: one of the windows that reach it.",
        "host: processor time of the thread that runs Python; processor: of all threads.",
        "fill: which share of the gradients that a device computes is wanted, if it takes "
        f"{_WIDE} at once.",
    ]
    return Result("host", job_settings(job), rows, notes)


def _computed(job: Job) -> Row:
    """Maps computed after a few samples for which programs are compiled."""
    model = make_model(job)
    field = make_field(model, job.field, job.roi)
    image, labels = synthetic_scan(job.shape, len(model.channels), job.lesions, job.seed)
    array = jnp.asarray(image)
    seen: list[Any] = []
    options: dict[str, Any] = {"target": TARGET, "samples": job.samples, "on_progress": seen.append}
    jaxsal.smoothgrad(field, array, labels, **options | {"samples": min(job.samples, 4)})
    with _dispatches() as dispatches:
        host, processor, begun = time.thread_time(), time.process_time(), time.perf_counter()
        jaxsal.smoothgrad(field, array, labels, **options)
        seconds = time.perf_counter() - begun
        host, processor = time.thread_time() - host, time.process_time() - processor
    gradients, pull_backs = int((labels > 0).sum()) * job.samples, seen[-1].gradients
    return {
        "case": f"{len(job.lesions)} lesions of {job.lesions[0]} voxels, {job.field}",
        "gradients": gradients,
        "pull_backs": pull_backs,
        "measured_s": seconds,
        "gradients_per_dispatch": gradients / len(dispatches),
        "host_us_per_gradient": 1e6 * host / gradients,
        "processor_us_per_gradient": 1e6 * processor / gradients,
        "processor_us_per_pull_back": 1e6 * processor / pull_backs,
    }


@contextmanager
def _dispatches() -> Iterator[list[str]]:
    """The names of the engine's programs as they are started."""
    names: list[str] = []

    def counted(name: str) -> Any:
        original = getattr(Programs, name)

        def call(*arguments: Any) -> Any:
            names.append(name)
            return original(*arguments)

        return call

    with ExitStack() as stack:
        for name in _STARTED:
            stack.enter_context(patch.object(Programs, name, counted(name)))
        yield names


def _planned(job: Job) -> Row:
    """The time to plan a scan, and how full its batches are."""
    model = make_model(job)
    field = make_field(model, job.field, job.roi)
    image, labels = synthetic_scan(job.shape, len(model.channels), job.lesions, job.seed)
    settings = SmoothGradSettings(samples=job.samples)
    work = _work(field, image, settings)
    domains = labelled_domains(labels, labels)
    voxels = np.concatenate([domain.voxels for domain in domains])
    single = Domain(1, voxels[:1])
    layout_within_memory(work, single.voxels, items_of([single], [[np.zeros(1, int)]]))  # traced
    host = time.thread_time()
    items = items_of(domains, [voxel_groups(domain, settings) for domain in domains])
    layout = layout_within_memory(work, voxels, items)
    assert layout.memory is not None  # or it would not be chosen
    pairs = layout.geometry.pairs([{lesion: lesion for lesion in range(len(domains))}])
    limits = layout.limits(layout.memory)
    schedule(pairs, limits)
    host = time.thread_time() - host
    gradients = len(voxels) * job.samples
    return {
        "case": f"planning {len(job.lesions)} lesions of {job.lesions[0]} voxels, {job.field}",
        "gradients": gradients,
        "pull_backs": len(pairs.items) * job.samples,
        "measured_s": host,
        "host_us_per_gradient": 1e6 * host / gradients,
        "fill": _fill(pairs, limits, layout, job.samples),
    }


def _work(field: LogitField, image: np.ndarray, settings: SmoothGradSettings) -> Work:
    """The maps of an image (X, Y, Z, C), on one device."""
    x, y, z, channels = image.shape
    devices = default_devices()[:1]
    return Work(
        field=field,
        target=TARGET,
        noisy=noisy_images(image, settings, None),
        shape=(x, y, z),
        channels=channels,
        devices=devices,
        budget=default_budget(devices),
        item_batch=None,
        noise_batch=None,
        squares=False,
        tolerance=None,
    )


def _fill(pairs: Pairs, limits: Limits, layout: Layout, samples: int) -> float:
    """Which share of the gradients that a wide device computes is wanted."""
    noise = samples_at_once(layout.geometry.shares, samples, _WIDE)
    memory = fit(layout.demand, _BUDGET, _WIDE, enough=ON_ACCELERATOR)
    assert memory is not None  # it is a large device
    batch, frames = _WIDE // noise, max(memory.frames // noise, 1)
    wide = replace(limits, batch=batch, frames=frames, slots=memory.slots)
    steps = schedule(pairs, wide).steps
    batches = sum(-(-int(s.counts.max()) // batch) for s in steps if isinstance(s, PullBack))
    return len(pairs.items) * samples / (batches * batch * -(-samples // noise) * noise)
