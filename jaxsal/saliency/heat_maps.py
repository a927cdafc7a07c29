"""Grad-CAM++ of lesions and its relatives: heat maps from the activations of a layer.

With ``A^k[v]`` the activations of the layer's channel k at its position v, ``y[v]`` the logits of
the lesion class and Ω a lesion's domain, those of Grad-CAM++ are, by Spagnolo et al. 2026::

    instance    y' = Σ_{v∈Ω} y[v]                        (9)
                ω^k[v] = α^k[v] · ReLU(∂y'/∂A^k[v])      (10)
                map[v] = ReLU(Σ_k ω^k[v] A^k[v])         (8)

    class       y' = Σ_{v: v is segmented} y[v]          (5)
                ω^k = Σ_v α^k[v] · ReLU(∂y'/∂A^k[v])     (6)
                map[v] = ReLU(Σ_k ω^k A^k[v])            (4)

    both        α^k[v] = ∂²Y / (2 ∂²Y + Σ_{v'} A^k[v'] ∂³Y),  derivatives along A^k[v]   (7)

with ``Y = exp(y')``, whose common factor cancels in α and is left out of ω. The others of the
family differ in ω, which for HiResCAM and LayerCAM is at class level what it is for an instance::

    Grad-CAM    ω^k = mean of ∂y'/∂A^k over the layer    (Selvaraju et al. 2017)
    HiResCAM    ω^k[v] = ∂y'/∂A^k[v]                     (Draelos & Carin 2020)
    LayerCAM    ω^k[v] = ReLU(∂y'/∂A^k[v])               (Jiang et al. 2021)

The factors are computed in `jaxsal.saliency.gradcam`: the derivatives of y' in `upper_network`
(first) and `diagonals` (second and third), α in `alpha`, ω and the maps on the layer in `weights`,
and the maps on the image's grid in `maps`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from jaxsal.errors import InputError, warn
from jaxsal.field.whole import whole_volume
from jaxsal.progress import OnProgress, Tracker
from jaxsal.saliency.domains import checked_devices, checked_image, checked_target, domains_of
from jaxsal.saliency.gradcam.maps import HeatMaps
from jaxsal.saliency.gradcam.upper_network import UpperNetwork
from jaxsal.saliency.gradcam.weights import WEIGHTINGS
from jaxsal.saliency.gradcam.windows import window_maps
from jaxsal.saliency.maps import Crop, warn_unless_finite

if TYPE_CHECKING:
    from jaxsal.arrays import Image, Labels
    from jaxsal.field.plan import LogitField
    from jaxsal.saliency.methods.gradcam import GradCamSettings
    from jaxsal.settings import DomainRule


def heat_maps(
    model: Any,
    image: Image,
    labels: Labels | None,
    settings: GradCamSettings,
    *,
    domain: DomainRule = "threshold",
    class_level: bool = False,
    field: LogitField | None = None,
    devices: Sequence[jax.Device] | None = None,
    on_progress: OnProgress | None = None,
) -> HeatMaps:
    """As the functions of `jaxsal.saliency.class_activation`, with the settings in one record.

    With ``class_level`` each label's domain gets a class-level map (for Grad-CAM++ Eqs. 4-6), as
    the segmented voxels do where there are no labels.
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
        level = "class" if class_level or labels is None else "instance"
        pooled = level in WEIGHTINGS[settings.method].pooled
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
    where: dict[str, Any] = {"field": field, "class_level": level == "class"}
    maps = heat_maps(model, image, labels, settings, on_progress=on_progress, **where)
    return ((label, maps.crop(label)) for label in maps.labels)


def _warn_of_empty(maps: HeatMaps, layer: str) -> None:
    empty = [
        label for label in maps.labels if not any(part.inside.any() for part in maps.parts[label])
    ]
    if empty:
        warn(
            f"{len(empty)} of {len(maps.labels)} heat maps at {layer} are zero everywhere, such as "
            f"that of lesion {empty[0]}: no position there speaks for the lesion, or the weights "
            "are negative, as where activations sum to less than zero; try another layer",
        )
