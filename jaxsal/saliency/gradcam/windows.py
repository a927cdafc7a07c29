"""The heat maps of all windows of an image, shared between devices, window by window."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from jaxsal.field.plan import cut_window, pad_image
from jaxsal.locality.places import places_of
from jaxsal.saliency.gradcam.diagonals import UpperAtWindow
from jaxsal.saliency.gradcam.maps import WindowMap
from jaxsal.saliency.gradcam.parts import WindowParts, parts_by_window
from jaxsal.saliency.gradcam.sizes import sizes_on_devices
from jaxsal.saliency.gradcam.window import WindowMaps

if TYPE_CHECKING:
    from jaxsal.field.plan import LogitField
    from jaxsal.progress import Tracker
    from jaxsal.saliency.domains import Domain
    from jaxsal.saliency.gradcam.upper_network import UpperNetwork
    from jaxsal.saliency.methods.gradcam import GradCamSettings


def window_maps(
    upper: UpperNetwork,
    field: LogitField,
    image: jax.Array,
    domains: Sequence[Domain],
    settings: GradCamSettings,
    pooled: bool,
    devices: tuple[jax.Device, ...],
    tracker: Tracker,
) -> dict[int, tuple[WindowMap, ...]]:
    """The maps of each domain on the windows that reach it, by label.

    Args:
        upper: the network above the layer.
        field: how the network runs over the image.
        image: (X, Y, Z, C).
        domains: at least one.
        settings: which maps.
        pooled: one weight per channel (Eq. 6), rather than one per position (Eq. 10).
        devices: to share the windows between.
        tracker: counts what is done.

    Raises:
        InputError: the memory does not suffice.
    """
    x, y, z, channels = image.shape
    plan = field.layer_plan((x, y, z), np.concatenate([d.voxels for d in domains]))
    window = (*plan.size, channels)
    sizes, devices = sizes_on_devices(upper, settings, field.parameters, window, devices)
    places = None  # evenly
    if settings.alignment == "receptive-field":
        places = places_of(upper.function, field.parameters, window, upper.layer)
    compute = WindowMaps(upper, settings, pooled, sizes)
    reached = parts_by_window(plan, domains)
    steps = (compute.steps(field.parameters, window, len(each.parts)) for each in reached)
    tracker.expect(lesions=len(domains), gradients=sum(steps))

    def work(job: WindowParts, parameters: Any, image: jax.Array) -> list[WindowMap]:
        start = plan.starts[job.window]
        share, origin = field.share(plan, job.window), tuple((start - plan.before).tolist())
        placed = partial(WindowMap, origin=origin, size=plan.size, share=share, places=places)
        at = UpperAtWindow(upper, parameters, cut_window(image, start, plan.size))
        return compute(at, job.parts, placed, lambda steps: tracker.advance(gradients=steps))

    found = _on_devices(work, reached, (field.parameters, pad_image(image, plan)), devices)
    parts: dict[int, list[WindowMap]] = {}
    for job, maps in zip(reached, found, strict=True):
        for lesion, part in zip(job.lesions, maps, strict=True):
            parts.setdefault(lesion, []).append(part)
    tracker.advance(lesions=len(domains))
    return {domain.label: tuple(parts[i]) for i, domain in enumerate(domains)}


def _on_devices(
    work: Callable[..., list[WindowMap]],
    jobs: Sequence[WindowParts],
    arrays: tuple[Any, jax.Array],
    devices: Sequence[jax.Device],
) -> list[list[WindowMap]]:
    """The maps of each job, from the arrays; a device takes one when it is done with another."""
    free: SimpleQueue[tuple[jax.Device, tuple[Any, jax.Array]]] = SimpleQueue()
    for device in devices[: len(jobs)]:
        free.put((device, jax.device_put(arrays, device)))

    def run(job: WindowParts) -> list[WindowMap]:
        device, own = free.get()
        try:
            with jax.default_device(device):
                return work(job, *own)
        finally:
            free.put((device, own))

    if len(devices) == 1:  # without a thread, which an interrupt would have to wait for
        return [run(job) for job in jobs]
    pool = ThreadPoolExecutor(len(devices))
    try:
        return list(pool.map(run, jobs))
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
