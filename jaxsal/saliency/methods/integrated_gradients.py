"""Integrated gradients as a method: their settings, what they cost, and how their maps appear.

`jaxsal.saliency.integrated_gradients` computes them (Sundararajan et al. 2017).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from jaxsal.errors import InputError, require_memory, require_one_of, require_whole
from jaxsal.options import option
from jaxsal.saliency.methods.appearance import Appearance
from jaxsal.saliency.methods.method import Cost, Method
from jaxsal.settings import INFILLS, Infill, memory_option

NAME = "integrated-gradients"
COMPLETENESS, STEPS, COMPLETE = (f"{NAME}_{key}" for key in ("completeness", "steps", "complete"))


@dataclass(frozen=True)
class IntegratedGradientsSettings:
    """How integrated gradients are computed (Sundararajan et al. 2017).

    Attributes:
        target: output channel whose logit is explained, as in `SmoothGradSettings`.
        baseline: the image without the lesion, from which the path leads to the image. "mean": the
            lesion and the margin around it hold the mean of healthy brain within 20 mm; "blurred":
            the whole image is blurred by 5 mm; "zero": it is 0, the mean of the brain.
        margin: how far around the lesion the baseline "mean" differs from the image, in mm.
        fewest_steps: number K of points on the path, to begin with.
        most_steps: K is doubled while the map is not complete, but not beyond this.
        completeness: the map is complete when its sum misses less than this share of the change of
            the logits from the baseline to the image.
        memory: bytes to stay within. None: a share of what is free on the device.
    """

    method: ClassVar[str] = NAME

    target: int | None = None
    baseline: Infill = option("mean")
    margin: float = option(5.0, "MM")
    fewest_steps: int = option(16, "K")
    most_steps: int = option(256, "K")
    completeness: float = option(0.01, "SHARE")
    memory: int | None = memory_option()

    def __post_init__(self) -> None:
        require_one_of("baseline", self.baseline, INFILLS)
        if not 0 <= self.margin < math.inf:
            raise InputError(f"margin must be 0 mm or more, and finite; got {self.margin}")
        for name in ("fewest_steps", "most_steps"):
            require_whole(name, getattr(self, name))
        if self.most_steps < self.fewest_steps:
            raise InputError(
                f"most_steps must be at least fewest_steps, {self.fewest_steps}; got "
                f"{self.most_steps}"
            )
        if not self.completeness > 0:
            raise InputError(f"completeness must be a share above 0; got {self.completeness}")
        require_memory(self.memory)

    def steps(self) -> Iterator[int]:
        """The numbers of points on the path, each twice the one before."""
        steps = self.fewest_steps
        while steps <= self.most_steps:
            yield steps
            steps *= 2


def _appearance(
    settings: IntegratedGradientsSettings, level: str, channels: Sequence[str]
) -> Appearance:
    figures = {
        COMPLETENESS: "what the map's sum misses of the change of the logits from the baseline to "
        "the image, relative to that; 0: nothing; empty: they do not change",
        STEPS: "points on the path, of whose gradients the map is the mean",
        COMPLETE: f"1: completeness is below {settings.completeness:g}; 0: it is not, with as many "
        "steps as were allowed",
    }
    return Appearance.of_channels(
        NAME, channels, "logits", subtitle=", integrated gradients", figures=figures
    )


def _cost(settings: IntegratedGradientsSettings) -> Cost:
    every = list(settings.steps())
    return Cost(lambda voxels: 1, sum(every), "lesion", at_most=len(every) > 1, of="step")


def _quick(settings: IntegratedGradientsSettings) -> IntegratedGradientsSettings:
    return replace(settings, most_steps=settings.fewest_steps, completeness=math.inf)


METHOD = Method(
    name=NAME,
    summary="gradients along a path from an image without the lesion, times the difference",
    settings=IntegratedGradientsSettings,
    maps="jaxsal.saliency.integrated_gradients:maps_of_domains",
    appearance=_appearance,
    cost=_cost,
    count="jaxsal.saliency.integrated_gradients:gradients_of",
    quick=_quick,
    in_scene=True,
    apart=True,
)
