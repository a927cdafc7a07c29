"""Grad-CAM++ and Grad-CAM as methods: the settings of their family, and how its maps appear.

`jaxsal.saliency.heat_maps` computes them (Spagnolo et al. 2026, Eqs. 4-10).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, get_args

from jaxsal.errors import InputError, require_memory, require_one_of, require_seed, require_whole
from jaxsal.options import option
from jaxsal.saliency.methods.appearance import Appearance
from jaxsal.saliency.methods.method import Method
from jaxsal.settings import memory_option, seed_option

CamMethod = Literal["gradcam", "gradcam++", "hirescam", "layercam"]
Derivation = Literal["closed-form", "exact", "stochastic"]
Denominator = Literal["paper", "monai"]
Alignment = Literal["receptive-field", "half-pixel"]


@dataclass(frozen=True)
class GradCamSettings:
    """How heat maps are computed (Spagnolo et al. 2026, Eqs. 4-10, and what differs in weights).

    Attributes:
        layer: layer whose activations are weighted: its name in `jaxsal info`, or the source's
            module path.
        target: as in `SmoothGradSettings`.
        method: "gradcam++", or another one's weights: "gradcam" (Selvaraju et al. 2017), "hirescam"
            (Draelos & Carin 2020) or "layercam" (Jiang et al. 2021).
        derivatives: derivatives of second and third order along the layer's unit vectors, for
            gradcam++. "closed-form": taken for zero, which is exact where the network is piecewise
            linear above the layer; "exact": for any network, one unit vector after the other;
            "stochastic": estimated by random probes.
        denominator: denominator of the weights of gradcam++. "paper": Eq. 7, with the third
            derivative at the position itself; "monai": with its sum over all positions together
            with the activations, to compare with older maps.
        probes: number of random probes, for stochastic derivatives.
        seed: of the probes.
        keep_derivatives: keep the derivatives that maps were computed from.
        memory: bytes to stay within. None: a share of what is free on the device.
        alignment: where the layer's cells lie in the image. "receptive-field": at the centres of
            what they read; "half-pixel": dividing the window evenly, as PyTorch's ``interpolate``
            with ``align_corners=False``, MONAI and pytorch-grad-cam have it, to compare with their
            maps.
    """

    layer: str = option(metavar="NAME")
    target: int | None = None
    method: CamMethod = "gradcam++"
    derivatives: Derivation = option("closed-form")
    denominator: Denominator = option("paper")
    probes: int = option(64, "N")
    seed: int = seed_option()
    keep_derivatives: bool = False
    memory: int | None = memory_option()
    alignment: Alignment = option("receptive-field")

    def __post_init__(self) -> None:
        require_one_of("method", self.method, get_args(CamMethod))
        require_one_of("alignment", self.alignment, get_args(Alignment))
        require_one_of("derivatives", self.derivatives, get_args(Derivation))
        require_one_of("denominator", self.denominator, get_args(Denominator))
        require_whole("probes", self.probes, 2)
        require_seed(self.seed)
        require_memory(self.memory)
        for name in ("derivatives", "denominator", "probes", "seed", "keep_derivatives"):
            given = getattr(self, name)
            if self.method != "gradcam++" and given != getattr(GradCamSettings, name):
                raise InputError(f"{name} is for gradcam++; {self.method} has none; got {given!r}")


def _appearance(
    title: str, settings: GradCamSettings, level: str, channels: Sequence[str]
) -> Appearance:
    return Appearance.of_heat(settings.method, "logits", f", {title} at {settings.layer}")


def _resolved(settings: GradCamSettings, model: Any, level: str) -> GradCamSettings:
    return replace(settings, layer=model.resolve_layer(settings.layer))


def _refuse(settings: GradCamSettings, level: str, given: Collection[str]) -> None:
    if settings.derivatives == "stochastic":
        return
    if "probes" in given:
        raise InputError("--probes is for --derivatives stochastic; give that, too, or neither")
    if "seed" in given:
        raise InputError("--seed is for noise and probes, and these heat maps have neither")


def _quick(settings: GradCamSettings) -> GradCamSettings:
    return replace(settings, derivatives="closed-form", denominator="paper")


GRADCAM_PLUS_PLUS = Method(
    name="gradcam++",
    summary="a heat map from the activations of a layer",
    settings=GradCamSettings,
    maps="jaxsal.saliency.heat_maps:maps_of_domains",
    appearance=partial(_appearance, "Grad-CAM++"),
    resolved=_resolved,
    refuse=_refuse,
    quick=_quick,
)


def of_gradients(name: CamMethod, title: str, summary: str) -> Method[GradCamSettings]:
    """A method of the family whose weights are made of first derivatives alone.

    Args:
        name: the method's.
        title: its name in the titles of pictures.
        summary: what its maps are.
    """
    return Method(
        name=name,
        summary=summary,
        settings=GradCamSettings,
        maps="jaxsal.saliency.heat_maps:maps_of_domains",
        fixed={"method": name},
        options=("layer", "alignment", "memory"),
        appearance=partial(_appearance, title),
        resolved=_resolved,
    )


GRADCAM = of_gradients("gradcam", "Grad-CAM", "a heat map whose weights are means of gradients")
