"""VarGrad as a method: its settings, and how its maps appear.

`jaxsal.saliency.vargrad` computes it (Adebayo et al. 2018).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

from jaxsal.errors import InputError
from jaxsal.saliency.methods.appearance import POSITIVE, Appearance
from jaxsal.saliency.methods.method import Method
from jaxsal.saliency.methods.smoothgrad import (
    SmoothGradSettings,
    cost_of,
    refuse,
    resolved,
    titled,
    variant_of,
)


@dataclass(frozen=True)
class VarGradSettings(SmoothGradSettings):
    """How VarGrad maps are computed: from SmoothGrad's gradients, of all noisy images."""

    method: ClassVar[str] = "vargrad"

    tolerance: float | None = field(default=None, init=False)
    standard_error: bool = field(default=True, init=False)  # made of the same squares

    def __post_init__(self) -> None:
        if self.samples < 2:
            raise InputError(f"a variance needs 2 samples or more, got {self.samples}")
        super().__post_init__()


def _appearance(settings: VarGradSettings, level: str, channels: Sequence[str]) -> Appearance:
    return Appearance.of_channels(
        variant_of(settings, level),
        channels,
        units="(logit per standard deviation)²",
        statistics=POSITIVE,
        scale="sequential",
        subtitle=titled("VarGrad", settings),
        approximation=settings.approximation,
    )


def _quick(settings: VarGradSettings) -> VarGradSettings:
    return replace(settings, samples=2)


METHOD = Method(
    name="vargrad",
    summary="the variance of SmoothGrad's gradients over the noisy images",
    settings=VarGradSettings,
    maps="jaxsal.saliency.vargrad:maps_of_domains",
    appearance=_appearance,
    variant=variant_of,
    resolved=resolved,
    refuse=refuse,
    cost=cost_of,
    quick=_quick,
    count="jaxsal.saliency.smoothgrad:gradients_of",
)
