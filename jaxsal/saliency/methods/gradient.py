"""The plain gradient as a method: SmoothGrad of the image itself, without noise.

`jaxsal.saliency.smoothgrad` computes it (Simonyan et al. 2014; over a lesion Eqs. 1-3 of Spagnolo
et al. 2026 with N = 1 and ε = 0).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

from jaxsal.saliency.methods.appearance import Appearance
from jaxsal.saliency.methods.method import Cost, Method
from jaxsal.saliency.methods.smoothgrad import (
    NoiseScale,
    SmoothGradSettings,
    cost_of,
    refuse,
    resolved,
    variant_of,
)


@dataclass(frozen=True)
class GradientSettings(SmoothGradSettings):
    """How gradients are computed: as SmoothGrad's, at the image alone."""

    method: ClassVar[str] = "gradient"

    samples: int = field(default=1, init=False)
    seed: int = field(default=0, init=False)
    noise: float | tuple[float, ...] = field(default=0.0, init=False)
    noise_scale: NoiseScale = field(default="absolute", init=False)
    tolerance: float | None = field(default=None, init=False)
    standard_error: bool = field(default=False, init=False)


def _appearance(settings: GradientSettings, level: str, channels: Sequence[str]) -> Appearance:
    return Appearance.of_channels(
        variant_of(settings, level),
        channels,
        subtitle=", gradient",
        approximation=settings.approximation,
    )


def _cost(settings: GradientSettings) -> Cost:
    return replace(cost_of(settings), of="image")


METHOD = Method(
    name="gradient",
    summary="the gradients themselves, without noise",
    settings=GradientSettings,
    maps="jaxsal.saliency.smoothgrad:maps_of_domains",
    appearance=_appearance,
    variant=variant_of,
    resolved=resolved,
    refuse=refuse,
    cost=_cost,
    count="jaxsal.saliency.smoothgrad:gradients_of",
)
