"""Instance-level and class-level Grad-CAM++ (Spagnolo et al. 2026, Eqs. 4-10), and Grad-CAM."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jax.typing import ArrayLike

from jaxsal.display import Follower
from jaxsal.errors import InputError
from jaxsal.field.plan import LogitField, WindowPlan, cut_window, pad_image
from jaxsal.field.whole import whole_volume
from jaxsal.locality.places import Places, places_of
from jaxsal.progress import OnProgress, Shown, Tracker
from jaxsal.saliency.domains import (
    checked_devices,
    checked_image,
    checked_target,
    domains_of,
)
from jaxsal.saliency.gradcam.diagonals import WindowHead
from jaxsal.saliency.gradcam.head import Head
from jaxsal.saliency.gradcam.jobs import Job, jobs_of
from jaxsal.saliency.gradcam.maps import HeatMaps, WindowMap
from jaxsal.saliency.gradcam.sizes import sizes_on_devices
from jaxsal.saliency.gradcam.window import PartMap, WindowMaps
from jaxsal.saliency.maps import Crop, warn_unless_finite
from jaxsal.saliency.methods.gradcam import Alignment, Denominator, Derivation, GradCamSettings
from jaxsal.settings import DomainRule

if TYPE_CHECKING:
    from jaxsal.arrays import Image, Labels


def gradcam_plus_plus(
    model: Any,
    image: Image,
    labels: Labels | None = None,
    *,
    layer: str,
    domain: DomainRule = "threshold",
    target: int | None = None,
    derivatives: Derivation = "closed-form",
    denominator: Denominator = "paper",
    alignment: Alignment = "receptive-field",
    field: LogitField | None = None,
    probes: int = 64,
    seed: int = 0,
    keep_derivatives: bool = False,
    memory: int | None = None,
    devices: Sequence[jax.Device] | None = None,
    on_progress: Shown = "auto",
) -> HeatMaps:
    """Heat maps of lesions from the activations of a layer.

    With A the activations of the layer's channels k at its positions v, and y' the sum of the
    logits of a domain, the map of an instance is ``ReLU(Σ_k α^k[v] ReLU(∂y'/∂A^k[v]) A^k[v])``
    (Eqs. 8-10) and that of the class ``ReLU(Σ_k ω^k A^k[v])``, with ω the sum of the same weights
    over v (Eqs. 4-6). α (Eq. 7) is derived from the score ``exp(y')``, whose common factor is
    left out: maps are in logits. `jaxsal.saliency.gradcam.weights` states all rules.

    Where the lesion's logits come from several windows, each window has a layer of its own; y' is
    the blended sum, and the maps are blended like the logits.

    Args:
        model: a `jaxsal.Model`.
        image: (X, Y, Z, C), normalised as the network expects.
        labels: (X, Y, Z) whole numbers, one lesion domain per positive label. None: class level,
            over all voxels that the field segments (see ``domain``), stored under the label 0.
        layer: its name (`jaxsal info` lists them), or the source's module path.
        domain: which voxels are segmented, for the class level, as in `jaxsal.smoothgrad`.
        target: output channel whose logits are explained; for networks with a single output
            channel, 0 and 1 both mean that one. By default the model's.
        derivatives: of second and third order. "closed-form" takes them for zero, which is exact
            for networks that are piecewise linear above the layer, and an approximation for those
            with instance norm, attention or smooth activations; "exact" computes them along one
            unit vector of the layer after the other; "stochastic" estimates them by random probes,
            and takes for zero what their standard errors tell to be noise. The estimates converge
            as one over the square root of the probes; the map, a quotient of them, is close to the
            exact one only where its denominators stay clear of zero.
        denominator: of α. "paper": Eq. 7; "monai": as MONAI and M3d-Cam have it, with the third
            derivative inside the sum over positions.
        alignment: where the layer's cells lie in the image, for maps on its grid.
            "receptive-field": at the centres of what they read (`jaxsal.locality.places`);
            "half-pixel": dividing the window evenly, as PyTorch's ``interpolate`` with
            ``align_corners=False``, MONAI and pytorch-grad-cam have it. That lies (s - 1) / 2
            voxels further on at 1/s of the resolution, where strided kernels are odd.
        field: how the network runs over the image: a `sliding_window` of the model, or by default
            its `whole_volume`.
        probes: number of random probes, for "stochastic".
        seed: of the probes.
        keep_derivatives: keep what maps were computed from, in ``windows(label)[i].derivatives``,
            with standard errors for "stochastic".
        memory: bytes to stay within; by default a share of what there is.
        devices: to share the windows between, all of one kind; by default the current one.
        on_progress: called as derivatives are computed, and when all lesions are done. By default
            a bar is shown on a terminal and in notebooks; None: nothing is.

    Returns:
        The maps. A lesion whose activations are zero everywhere has a map of zeros; without any
        lesion, or any segmented voxel, there is no map.

    Raises:
        InputError: there is no such layer or it has no positions in space, an argument is out of
            its range, shapes do not agree, or the memory does not suffice.
    """
    settings = GradCamSettings(
        layer=layer,
        target=target,
        derivatives=derivatives,
        denominator=denominator,
        probes=probes,
        seed=seed,
        keep_derivatives=keep_derivatives,
        memory=memory,
        alignment=alignment,
    )
    with Follower(on_progress, "heat maps") as follow:
        return heat_maps(
            model,
            image,
            labels,
            settings,
            domain=domain,
            field=field,
            devices=devices,
            on_progress=follow,
        )


def gradcam(
    model: Any,
    image: Image,
    labels: Labels | None = None,
    *,
    layer: str,
    domain: DomainRule = "threshold",
    target: int | None = None,
    alignment: Alignment = "receptive-field",
    field: LogitField | None = None,
    memory: int | None = None,
    devices: Sequence[jax.Device] | None = None,
    on_progress: Shown = "auto",
) -> HeatMaps:
    """Grad-CAM (Selvaraju et al. 2017) of a domain's summed logits (Vinogradova et al. 2020).

    The map is ``ReLU(Σ_k ω^k A^k[v])`` with ω the mean of ``∂y'/∂A^k`` over the layer's positions;
    for one lesion per label, or at class level. Arguments, result and errors are those of
    `gradcam_plus_plus`.
    """
    settings = GradCamSettings(
        layer=layer, target=target, method="gradcam", memory=memory, alignment=alignment
    )
    with Follower(on_progress, "heat maps") as follow:
        return heat_maps(
            model,
            image,
            labels,
            settings,
            domain=domain,
            field=field,
            devices=devices,
            on_progress=follow,
        )


def heat_maps(
    model: Any,
    image: ArrayLike,
    labels: ArrayLike | None,
    settings: GradCamSettings,
    *,
    domain: DomainRule = "threshold",
    pooled: bool = False,
    field: LogitField | None = None,
    devices: Sequence[jax.Device] | None = None,
    on_progress: OnProgress | None = None,
) -> HeatMaps:
    """As `gradcam_plus_plus` and `gradcam`, with the arguments in one record.

    With ``pooled`` each label's domain gets a class-level map (Eqs. 4-6), as the segmented voxels
    do where there are no labels.
    """
    chosen = checked_devices(devices)
    if devices is None and chosen[0].platform == "cpu":
        chosen = chosen[:1]  # each would have the programs compiled for itself
    layer = _layer_of(model, settings.layer)
    field = whole_volume(model) if field is None else field
    if field.function != model.function or field.parameters is not model.parameters:
        raise InputError("the field must run the model whose layer is asked for; got another's")
    tracker = Tracker(on_progress)
    with jax.default_device(chosen[0]):
        checked = checked_image(image)
        target = checked_target(field, checked, settings.target)
        x, y, z, _ = checked.shape
        head = Head(model.function, layer, target)
        domains = domains_of(field, checked, labels, target, domain)
        if not domains:
            return HeatMaps({}, (x, y, z))
        plan = field.layer_plan((x, y, z), np.concatenate([d.voxels for d in domains]))
        jobs = jobs_of(plan, domains)
        pooled = pooled or labels is None or settings.method == "gradcam"
        window = (*plan.size, checked.shape[-1])
        sizes, chosen = sizes_on_devices(head, settings, model.parameters, window, chosen)
        compute = WindowMaps(head, settings, pooled, sizes)
        steps = (compute.steps(model.parameters, window, len(job.parts)) for job in jobs)
        tracker.expect(lesions=len(domains), gradients=sum(steps))
        padded = pad_image(checked, plan)
        found = _run(compute, chosen, model.parameters, padded, plan, jobs, tracker)
        places = None  # evenly
        if settings.alignment == "receptive-field":
            places = places_of(head.function, model.parameters, window, layer)
        parts = _by_lesion(field, plan, jobs, found, places)
        tracker.advance(lesions=len(domains))
        named = {domain.label: tuple(parts[i]) for i, domain in enumerate(domains)}
        maps = HeatMaps(named, (x, y, z))
        _warn_of_empty(maps, layer)
        for label in maps.labels:
            warn_unless_finite(label, *(part.inside for part in maps.parts[label]))
        return maps


def maps_of_domains(
    model: Any,
    field: LogitField,
    image: np.ndarray,
    labels: np.ndarray,
    settings: GradCamSettings,
    *,
    level: str,
    on_progress: OnProgress | None,
) -> Iterator[tuple[int, Crop]]:
    """The maps of some domains; see `jaxsal.saliency.methods.method.Maps`.

    They are interpolated one after the other, for they take more memory than what they are made of.
    """
    maps = heat_maps(
        model,
        image,
        labels,
        settings,
        pooled=level == "class",
        field=field,
        on_progress=on_progress,
    )
    return ((label, maps.crop(label)) for label in maps.labels)


def _warn_of_empty(maps: HeatMaps, layer: str) -> None:
    empty = [
        label for label in maps.labels if not any(part.inside.any() for part in maps.parts[label])
    ]
    if empty:
        warnings.warn(
            f"{len(empty)} of {len(maps.labels)} heat maps at {layer} are zero everywhere, such as "
            f"that of lesion {empty[0]}: no position there speaks for the lesion, or the weights "
            "are negative, as where activations sum to less than zero; try another layer",
            stacklevel=3,
        )


def _layer_of(model: Any, name: str) -> str:
    if not hasattr(model, "resolve_layer"):
        raise InputError(
            f"heat maps need a network whose layers have names, a jaxsal.Model; got {type(model)}"
        )
    layer: str = model.resolve_layer(name)
    return layer


def _run(
    compute: WindowMaps,
    devices: Sequence[jax.Device],
    parameters: Any,
    image: jax.Array,
    plan: WindowPlan,
    jobs: Sequence[Job],
    tracker: Tracker,
) -> list[list[PartMap]]:
    """The maps of each job; every device takes a window when it is done with another."""
    free: SimpleQueue[tuple[jax.Device, Any, jax.Array]] = SimpleQueue()
    for device in devices[: len(jobs)]:
        free.put((device, *jax.device_put((parameters, image), device)))

    def report(steps: int) -> None:
        tracker.advance(gradients=steps)

    def work(job: Job) -> list[PartMap]:
        device, own_parameters, own_image = free.get()
        try:
            with jax.default_device(device):
                start = plan.starts[job.window]
                window = cut_window(own_image, start, plan.size)
                at = WindowHead(compute.head, own_parameters, window)
                return compute(at, job.parts, report)
        finally:
            free.put((device, own_parameters, own_image))

    if len(devices) == 1:  # without a thread, which an interrupt would have to wait for
        return [work(job) for job in jobs]
    pool = ThreadPoolExecutor(len(devices))
    try:
        return list(pool.map(work, jobs))
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _by_lesion(
    field: LogitField,
    plan: WindowPlan,
    jobs: Sequence[Job],
    found: Sequence[Sequence[PartMap]],
    places: Places | None,
) -> dict[int, list[WindowMap]]:
    """The maps on each lesion's windows, by the lesion's number."""
    parts: dict[int, list[WindowMap]] = {}
    for job, maps in zip(jobs, found, strict=True):
        x, y, z = (plan.starts[job.window] - plan.before).tolist()
        share = field.share(plan, job.window)
        for lesion, (inside, start, grid, derivatives) in zip(job.lesions, maps, strict=True):
            part = WindowMap(inside, start, grid, (x, y, z), plan.size, share, derivatives, places)
            parts.setdefault(lesion, []).append(part)
    return parts
