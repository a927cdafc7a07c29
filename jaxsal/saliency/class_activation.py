"""Heat maps of lesions from Python: Grad-CAM++, Grad-CAM, HiResCAM and LayerCAM.

`jaxsal.saliency.heat_maps` states their formulas and computes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

import jax

from jaxsal.display import Follower
from jaxsal.options import keywords_of
from jaxsal.progress import Shown
from jaxsal.saliency.heat_maps import heat_maps
from jaxsal.saliency.methods.gradcam import (
    Alignment,
    CamMethod,
    Denominator,
    Derivation,
    GradCamSettings,
)
from jaxsal.store.schema import check_known

if TYPE_CHECKING:
    from jaxsal.arrays import Image, Labels
    from jaxsal.field.plan import LogitField
    from jaxsal.saliency.gradcam.maps import HeatMaps
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
    """Grad-CAM++ of lesions (Spagnolo et al. 2026, Eqs. 4-10).

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
    known = keywords_of(gradcam_plus_plus, GradCamSettings)
    check_known("gradcam_plus_plus", settings, known, "option")
    asked = {"derivatives": derivatives, "denominator": denominator, **settings}
    chosen = GradCamSettings(layer, target, **asked)
    where: dict[str, Any] = {"domain": domain, "field": field, "devices": devices}
    with Follower(on_progress, "heat maps") as follow:
        return heat_maps(model, image, labels, chosen, on_progress=follow, **where)


class CamOptions(TypedDict, total=False):
    """What `gradcam`, `hirescam` and `layercam` take; each as `gradcam_plus_plus` has it."""

    target: int | None
    alignment: Alignment
    memory: int | None
    domain: DomainRule
    field: LogitField | None
    devices: Sequence[jax.Device] | None
    on_progress: Shown


def gradcam(
    model: Any,
    image: Image,
    labels: Labels | None = None,
    *,
    layer: str,
    **options: Unpack[CamOptions],
) -> HeatMaps:
    """Grad-CAM (Selvaraju et al. 2017) of a domain's summed logits (Vinogradova et al. 2020).

    The map is ``ReLU(Σ_k ω^k A^k[v])`` with ω the mean of ``∂y'/∂A^k`` over the layer's positions;
    for one lesion per label, or at class level.

    Its arguments, result and errors are those of `gradcam_plus_plus`.
    """
    return _by_gradients("gradcam", model, image, labels, layer, **options)


def hirescam(
    model: Any,
    image: Image,
    labels: Labels | None = None,
    *,
    layer: str,
    **options: Unpack[CamOptions],
) -> HeatMaps:
    """HiResCAM (Draelos & Carin 2020) of a domain's summed logits.

    The map is ``ReLU(Σ_k g^k[v] A^k[v])`` with ``g^k = ∂y'/∂A^k``: how much each position of the
    layer adds to y', to first order; for one lesion per label, or at class level.

    Its arguments, result and errors are those of `gradcam_plus_plus`.
    """
    return _by_gradients("hirescam", model, image, labels, layer, **options)


def layercam(
    model: Any,
    image: Image,
    labels: Labels | None = None,
    *,
    layer: str,
    **options: Unpack[CamOptions],
) -> HeatMaps:
    """LayerCAM (Jiang et al. 2021) of a domain's summed logits.

    The map is ``ReLU(Σ_k ReLU(g^k[v]) A^k[v])`` with ``g^k = ∂y'/∂A^k``; for one lesion per label,
    or at class level.

    Its arguments, result and errors are those of `gradcam_plus_plus`.
    """
    return _by_gradients("layercam", model, image, labels, layer, **options)


def _by_gradients(
    method: CamMethod,
    model: Any,
    image: Image,
    labels: Labels | None,
    layer: str,
    **options: Unpack[CamOptions],
) -> HeatMaps:
    check_known(method, options, ("layer", *CamOptions.__annotations__), "option")
    return gradcam_plus_plus(model, image, labels, layer=layer, method=method, **options)
