"""SmoothGrad of lesions: gradients of their logits with respect to noisy copies of the image.

With ``y(x)[v']`` the logit of the lesion class at voxel v' and ``x_n = x + ε_n`` the n-th of N
noisy images, let ``D[n, v'](v) = ∂y(x_n)[v'] / ∂x_n[v]``. The maps, by Spagnolo et al. 2026, are::

    class                     M(v) = 1/N Σ_n Σ_{v' segmented} D[n, v'](v)        (1)
    instance, mean            M(v) = 1/(N |Ω|) Σ_n Σ_{v'∈Ω} D[n, v'](v)          (2)
    instance, signed maximum  M(v) = 1/N Σ_n D[n, m](v),                         (3)
                              m = argmax_{v'∈Ω} |D[n, v'](v)|

`jaxsal.saliency.items` chooses the v' whose logits are differentiated one by one (Eq. 3) or summed
up (Eqs. 1, 2), `derivative` computes D, `noise` the ε_n, `aggregate` the signed maximum over v' and
`accumulation` the mean over n; `engine` composes them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from jaxsal.box import Box
from jaxsal.display import Follower
from jaxsal.errors import warn
from jaxsal.field.plan import LogitField
from jaxsal.options import keywords_of
from jaxsal.progress import OnProgress, Shown, Tracker
from jaxsal.saliency.accumulation import LesionMap
from jaxsal.saliency.domains import (
    Domain,
    checked_devices,
    checked_image,
    checked_target,
    domains_of,
    labelled_domains,
)
from jaxsal.saliency.engine import Engine
from jaxsal.saliency.items import ItemWindows, items_of, voxel_groups
from jaxsal.saliency.layout import Work
from jaxsal.saliency.maps import Crop, SaliencyMaps, warn_unless_finite
from jaxsal.saliency.memory import default_budget
from jaxsal.saliency.methods.smoothgrad import Aggregate, NoiseScale, SmoothGradSettings
from jaxsal.saliency.noise import noisy_images
from jaxsal.settings import DomainRule
from jaxsal.store.schema import check_known

if TYPE_CHECKING:
    from jaxsal.arrays import Image, Labels, Noise
    from jaxsal.field.plan import LogitField
    from jaxsal.saliency.methods.smoothgrad import SmoothGradSettings


def smoothgrad(
    field: LogitField,
    image: Image,
    labels: Labels | None = None,
    *,
    target: int | None = None,
    aggregate: Aggregate = "max",
    samples: int = 50,
    noise: float | tuple[float, ...] = 0.05,
    noise_scale: NoiseScale = "range",
    seed: int = 0,
    noise_samples: Noise | None = None,
    domain: DomainRule = "threshold",
    devices: Sequence[jax.Device] | None = None,
    on_progress: Shown = "auto",
    **settings: Any,
) -> SaliencyMaps:
    """SmoothGrad maps of lesions (Spagnolo et al. 2026, Eqs. 1-3); formulas: see this module.

    Args:
        field: logits as a function of the image: `whole_volume` or `sliding_window`.
        image: (X, Y, Z, C), normalised as the network expects.
        labels: (X, Y, Z) whole numbers, one lesion domain per positive label. None: class level
            (Eq. 1), stored under the label 0; ``aggregate`` does not apply. Where no voxel is
            segmented there is a warning and no map.
        target: output channel whose logit is explained; for networks with a single output
            channel, 0 and 1 both mean that one. By default the model's; 1 for a callable.
        aggregate: "max": the signed maximum (Eq. 3); "mean" (Eq. 2); or "sum".
        samples: number N of noisy images; with a tolerance, the largest number.
        noise: level of the Gaussian noise, or one per channel; see ``noise_scale``.
        noise_scale: "range": ``noise`` is a fraction of channel 0's range; "absolute": it is the
            standard deviation.
        seed: of the noise; equal seeds give equal noise in any batch, window or device.
        noise_samples: (N, X, Y, Z, C) noise to add instead; ``samples``, ``noise``,
            ``noise_scale`` and ``seed`` then do not apply to it.
        domain: which voxels are segmented, for the class level. "threshold": those whose lesion
            probability is at least the model's threshold, 0.5 for a callable; "argmax": those
            where ``target`` is the most probable of the network's classes.
        devices: to share the work between, all of one kind; by default the current one, or all of
            the CPU's.
        on_progress: called as gradients are done. By default a bar is shown on a terminal and in
            notebooks; None: nothing is.
        settings: others of `jaxsal.SmoothGradSettings`: ``voxels_per_lesion``, ``group_size``,
            ``tolerance``, ``standard_error``, ``memory``, ``voxel_batch``, ``noise_batch``.

    Returns:
        The maps, in logits per unit of each image channel, float32. A crop holds the number of
        noisy images that were used, and the standard error if it was asked for.

    Raises:
        InputError: an argument is out of its range, or shapes do not agree.
    """
    check_known("smoothgrad", settings, keywords_of(smoothgrad, SmoothGradSettings), "option")
    if noise_samples is not None:  # its shape is checked later
        samples = max((*np.shape(noise_samples), 1)[0], 1)
    asked = SmoothGradSettings(
        target=target,
        aggregate=aggregate,
        samples=samples,
        noise=noise,
        noise_scale=noise_scale,
        seed=seed,
        **settings,
    )
    with Follower(on_progress, "saliency maps") as follow:
        crops = smoothgrad_stream(
            field,
            image,
            labels,
            asked,
            domain=domain,
            noise_samples=noise_samples,
            devices=devices,
            on_progress=follow,
        )
        x, y, z = np.shape(image)[:3]
        return SaliencyMaps(dict(crops), (x, y, z))


def smoothgrad_stream(
    field: LogitField,
    image: Image,
    labels: Labels | None = None,
    settings: SmoothGradSettings | None = None,
    *,
    domain: DomainRule = "threshold",
    noise_samples: Noise | None = None,
    devices: Sequence[jax.Device] | None = None,
    on_progress: Shown = "auto",
) -> Iterator[tuple[int, Crop]]:
    """As `smoothgrad`, but yields each label with its map as soon as it is complete.

    Lesions are computed together as far as the memory goes, so that a scan with any number of them
    can be explained. Arguments are checked at once, not when the first map is asked for.
    """
    settings = settings or SmoothGradSettings()
    chosen = checked_devices(devices)
    follower = Follower(on_progress, "saliency maps")
    tracker = Tracker(follower)
    with jax.default_device(chosen[0]):
        array = checked_image(image)
        target = checked_target(field, array, settings.target)
        if labels is None:
            settings = replace(settings, aggregate="sum")  # Eq. 1
        domains = domains_of(field, array, labels, target, domain)
        # On the host, from where it can be had again when a device is lost.
        noisy = noisy_images(np.asarray(array), settings, noise_samples)
        x, y, z, channels = array.shape
        work = Work(
            field=field,
            target=target,
            noisy=noisy,
            shape=(x, y, z),
            channels=channels,
            devices=chosen,
            budget=settings.memory or default_budget(chosen),
            item_batch=settings.voxel_batch,
            noise_batch=settings.noise_batch and min(settings.noise_batch, noisy.count),
            squares=settings.standard_error or settings.tolerance is not None,
            tolerance=settings.tolerance,
            report=lambda count: tracker.advance(gradients=count),
        )
        tracker.expect(lesions=len(domains))
        crops = _maps(work, domains, settings, tracker) if domains else iter(())
        return _followed(crops, follower)


def maps_of_domains(
    model: Any,
    field: LogitField,
    image: np.ndarray,
    labels: np.ndarray,
    settings: SmoothGradSettings,
    *,
    level: str,
    on_progress: OnProgress | None,
) -> Iterator[tuple[int, Crop]]:
    """The maps of some domains; see `jaxsal.saliency.methods.method.Maps`."""
    crops = smoothgrad_stream(field, image, labels, settings, on_progress=on_progress)
    if settings.standard_error:
        return crops
    # A tolerance has it computed unasked.
    return ((label, replace(crop, standard_error=None)) for label, crop in crops)


def _followed(crops: Iterator[tuple[int, Crop]], follower: Follower) -> Iterator[tuple[int, Crop]]:
    with follower:
        yield from crops


def _maps(
    work: Work, domains: Sequence[Domain], settings: SmoothGradSettings, tracker: Tracker
) -> Iterator[tuple[int, Crop]]:
    """Each label with its map, wave by wave; the engine is made before the first is asked for."""
    voxels = np.concatenate([domain.voxels for domain in domains])
    items = items_of(domains, [voxel_groups(domain, settings) for domain in domains])
    engine = Engine(work, voxels, items)
    tracker.expect(gradients=work.noisy.count * engine.pull_backs)

    def crops() -> Iterator[tuple[int, Crop]]:
        for wave in engine.waves:
            maps = engine.maps(wave)
            for lesion, lesion_map in zip(wave, maps, strict=True):
                domain = domains[lesion]
                # Eq. 2 divides by |Ω|; the signed maximum (Eq. 3) and the sum (Eq. 1) by nothing.
                divisor = len(domain.voxels) if settings.aggregate == "mean" else 1
                box = engine.footprint(lesion)
                yield domain.label, _crop(domain.label, lesion_map, box, divisor)
            tracker.advance(lesions=len(wave))

    return crops()


def _crop(label: int, lesion_map: LesionMap, box: Box, divisor: int) -> Crop:
    values = lesion_map.mean(box, divisor)
    warn_unless_finite(label, values)
    if not values.any():
        warn(
            f"the map of lesion {label} is zero everywhere: the network's logits there do not "
            "change with the image, such as constant, rounded or saturated ones",
        )
    error = lesion_map.standard_error(box, divisor)
    return Crop(values, box.start, lesion_map.samples, error)


def gradients_of(
    field: LogitField, labels: np.ndarray, settings: SmoothGradSettings
) -> dict[int, int]:
    """How many gradients the map of each lesion of labels (X, Y, Z) takes, as progress counts them.

    One per voxel (or summed group of voxels), window that reaches it and noise sample; with a
    tolerance that is the largest number.
    """
    domains = labelled_domains(labels, labels)
    if not domains:
        return {}
    items = items_of(domains, [voxel_groups(domain, settings) for domain in domains])
    x, y, z = labels.shape
    voxels = np.concatenate([domain.voxels for domain in domains])
    windows = ItemWindows(field.plan((x, y, z), voxels), voxels, items)
    counts = settings.samples * windows.pull_backs
    return {domain.label: int(count) for domain, count in zip(domains, counts, strict=True)}
