"""Grad-CAM++ and Grad-CAM of lesions: heat maps from the activations of a layer.

With ``A^k[v]`` the activations of the layer's channel k at its position v, ``y[v]`` the logits of
the lesion class and Ω a lesion's domain, the maps are those of Spagnolo et al. 2026::

    instance    y' = Σ_{v∈Ω} y[v]                        (9)
                ω^k[v] = α^k[v] · ReLU(∂y'/∂A^k[v])      (10)
                map[v] = ReLU(Σ_k ω^k[v] A^k[v])         (8)

    class       y' = Σ_{v: v is segmented} y[v]          (5)
                ω^k = Σ_v α^k[v] · ReLU(∂y'/∂A^k[v])     (6)
                map[v] = ReLU(Σ_k ω^k A^k[v])            (4)

    both        α^k[v] = ∂²Y / (2 ∂²Y + Σ_{v'} A^k[v'] ∂³Y),  derivatives along A^k[v]   (7)

with ``Y = exp(y')``, whose common factor cancels in α and is left out of ω. The factors are
computed in `jaxsal.saliency.gradcam`: the derivatives of y' in `upper_network` (first) and
`diagonals` (second and third), α, ω and the maps on the layer in `weights`, and the maps on the
image's grid in `maps`.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from jaxsal.display import Follower
from jaxsal.errors import InputError
from jaxsal.field.whole import whole_volume
from jaxsal.progress import OnProgress, Shown, Tracker
from jaxsal.saliency.domains import checked_devices, checked_image, checked_target, domains_of
from jaxsal.saliency.gradcam.maps import HeatMaps
from jaxsal.saliency.gradcam.upper_network import UpperNetwork
from jaxsal.saliency.gradcam.windows import window_maps
from jaxsal.saliency.maps import Crop, warn_unless_finite
from jaxsal.saliency.methods.gradcam import Alignment, Denominator, Derivation, GradCamSettings

if TYPE_CHECKING:
    from jaxsal.arrays import Image, Labels
    from jaxsal.field.plan import LogitField
    from jaxsal.settings import DomainRule


def gradcam_plus_plus(
    model: Any,
    image: Image,
    labels: Labels | None = None,
    *,
    layer: str,
    target: int | None = None,
    derivatives: Derivation = "closed-form",
    denominator: Denominator = "paper",
    domain: DomainRule = "threshold",
    field: LogitField | None = None,
    devices: Sequence[jax.Device] | None = None,
    on_progress: Shown = "auto",
    **settings: Any,
) -> HeatMaps:
    """Grad-CAM++ of lesions (Spagnolo et al. 2026, Eqs. 4-10); see the formulas in this module.

    Where a lesion's logits come from several windows, each window has a layer of its own; y' is
    the blended sum, and the maps are blended like the logits.

    Args:
        model: a `jaxsal.Model`.
        image: (X, Y, Z, C), normalised as the network expects.
        labels: (X, Y, Z) whole numbers, one lesion domain per positive label. None: class level,
            over all voxels that the field segments (see ``domain``), stored under the label 0.
        layer: its name (`jaxsal info` lists them), or the source's module path.
        target: output channel whose logits are explained; for networks with a single output
            channel, 0 and 1 both mean that one. By default the model's.
        derivatives: of second and third order. "closed-form" takes them for zero, which is exact
            for networks that are piecewise linear above the layer, and an approximation for those
            with instance norm, attention or smooth activations; "exact" computes them along one
            unit vector of the layer after the other; "stochastic" estimates them by random probes,
            and takes for zero what lies within its standard error. The error of the estimates
            falls with the square root of the number of probes; the map, a quotient of them, is
            close to the exact one only where its denominators stay clear of zero.
        denominator: of α. "paper": Eq. 7; "monai": as MONAI and M3d-Cam have it, with the third
            derivative inside the sum over positions.
        domain: which voxels are segmented, for the class level, as in `jaxsal.smoothgrad`.
        field: how the network runs over the image: a `sliding_window` of the model, or by default
            its `whole_volume`.
        devices: to share the windows between, all of one kind; by default the current one.
        on_progress: called as derivatives are computed, and when all lesions are done. By default
            a bar is shown on a terminal and in notebooks; None: nothing is.
        settings: others of `jaxsal.GradCamSettings`: ``alignment``, ``probes``, ``seed``,
            ``keep_derivatives``, ``memory``.

    Returns:
        The maps, float32, in logits. A lesion whose activations are zero everywhere has a map of
        zeros; without any lesion, or any segmented voxel, there is no map.

    Raises:
        InputError: there is no such layer or it has no positions in space, an argument is out of
            its range, shapes do not agree, or the memory does not suffice.
    """
    asked = {"derivatives": derivatives, "denominator": denominator, **settings}
    chosen = GradCamSettings(layer, target, **asked)
    where: dict[str, Any] = {"domain": domain, "field": field, "devices": devices}
    with Follower(on_progress, "heat maps") as follow:
        return heat_maps(model, image, labels, chosen, on_progress=follow, **where)


def gradcam(
    model: Any,
    image: Image,
    labels: Labels | None = None,
    *,
    layer: str,
    target: int | None = None,
    alignment: Alignment = "receptive-field",
    memory: int | None = None,
    domain: DomainRule = "threshold",
    field: LogitField | None = None,
    devices: Sequence[jax.Device] | None = None,
    on_progress: Shown = "auto",
) -> HeatMaps:
    """Grad-CAM (Selvaraju et al. 2017) of a domain's summed logits (Vinogradova et al. 2020).

    The map is ``ReLU(Σ_k ω^k A^k[v])`` with ω the mean of ``∂y'/∂A^k`` over the layer's positions;
    for one lesion per label, or at class level.

    Its arguments, result and errors are those of `gradcam_plus_plus`.
    """
    where: dict[str, Any] = {"domain": domain, "field": field, "devices": devices}
    how: dict[str, Any] = {"method": "gradcam", "alignment": alignment, "memory": memory}
    return gradcam_plus_plus(
        model, image, labels, layer=layer, target=target, on_progress=on_progress, **where, **how
    )


def heat_maps(
    model: Any,
    image: Image,
    labels: Labels | None,
    settings: GradCamSettings,
    *,
    domain: DomainRule = "threshold",
    pooled: bool = False,
    field: LogitField | None = None,
    devices: Sequence[jax.Device] | None = None,
    on_progress: OnProgress | None = None,
) -> HeatMaps:
    """As `gradcam_plus_plus` and `gradcam`, with the settings in one record.

    With ``pooled`` each label's domain gets a class-level map (Eqs. 4-6), as the segmented voxels
    do where there are no labels.
    """
    chosen = checked_devices(devices)
    if devices is None and chosen[0].platform == "cpu":
        chosen = chosen[:1]  # each would have the programs compiled for itself
    if not hasattr(model, "resolve_layer"):
        raise InputError(
            f"heat maps need a network whose layers have names, a jaxsal.Model; got {type(model)}"
        )
    layer: str = model.resolve_layer(settings.layer)
    field = whole_volume(model) if field is None else field
    if field.function != model.function or field.parameters is not model.parameters:
        raise InputError("the field must run the model whose layer is asked for; got another's")
    with jax.default_device(chosen[0]):
        checked = checked_image(image)
        target = checked_target(field, checked, settings.target)
        x, y, z, _ = checked.shape
        upper = UpperNetwork(model.function, layer, target)
        domains = domains_of(field, checked, labels, target, domain)
        if not domains:
            return HeatMaps({}, (x, y, z))
        pooled = pooled or labels is None or settings.method == "gradcam"
        tracker = Tracker(on_progress)
        parts = window_maps(upper, field, checked, domains, settings, pooled, chosen, tracker)
    maps = HeatMaps(parts, (x, y, z))
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
    where: dict[str, Any] = {"field": field, "pooled": level == "class"}
    maps = heat_maps(model, image, labels, settings, on_progress=on_progress, **where)
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
