"""The heat maps of all windows of an image, shared between devices, window by window."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
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
from jaxsal.saliency.gradcam.window import PartMap, WindowMaps

if TYPE_CHECKING:
    from jaxsal.field.plan import LogitField, WindowPlan
    from jaxsal.locality.places import Places
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
    compute = WindowMaps(upper, settings, pooled, sizes)
    reached = parts_by_window(plan, domains)
    steps = (compute.steps(field.parameters, window, len(each.parts)) for each in reached)
    tracker.expect(lesions=len(domains), gradients=sum(steps))
    found = _run(compute, devices, field, pad_image(image, plan), plan, reached, tracker)
    places = None  # evenly
    if settings.alignment == "receptive-field":
        places = places_of(upper.function, field.parameters, window, upper.layer)
    parts = _by_lesion(field, plan, reached, found, places)
    tracker.advance(lesions=len(domains))
    return {domain.label: tuple(parts[i]) for i, domain in enumerate(domains)}


def _run(
    compute: WindowMaps,
    devices: Sequence[jax.Device],
    field: LogitField,
    image: jax.Array,
    plan: WindowPlan,
    reached: Sequence[WindowParts],
    tracker: Tracker,
) -> list[list[PartMap]]:
    """The maps of each window; every device takes a window when it is done with another."""
    free: SimpleQueue[tuple[jax.Device, Any, jax.Array]] = SimpleQueue()
    for device in devices[: len(reached)]:
        free.put((device, *jax.device_put((field.parameters, image), device)))

    def report(steps: int) -> None:
        tracker.advance(gradients=steps)

    def work(job: WindowParts) -> list[PartMap]:
        device, own_parameters, own_image = free.get()
        try:
            with jax.default_device(device):
                start = plan.starts[job.window]
                window = cut_window(own_image, start, plan.size)
                at = UpperAtWindow(compute.upper, own_parameters, window)
                return compute(at, job.parts, report)
        finally:
            free.put((device, own_parameters, own_image))

    if len(devices) == 1:  # without a thread, which an interrupt would have to wait for
        return [work(job) for job in reached]
    pool = ThreadPoolExecutor(len(devices))
    try:
        return list(pool.map(work, reached))
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _by_lesion(
    field: LogitField,
    plan: WindowPlan,
    reached: Sequence[WindowParts],
    found: Sequence[Sequence[PartMap]],
    places: Places | None,
) -> dict[int, list[WindowMap]]:
    """The maps on each lesion's windows, by the lesion's number."""
    parts: dict[int, list[WindowMap]] = {}
    for job, maps in zip(reached, found, strict=True):
        x, y, z = (plan.starts[job.window] - plan.before).tolist()
        share = field.share(plan, job.window)
        for lesion, (inside, start, grid, derivatives) in zip(job.lesions, maps, strict=True):
            part = WindowMap(inside, start, grid, (x, y, z), plan.size, share, derivatives, places)
            parts.setdefault(lesion, []).append(part)
    return parts
