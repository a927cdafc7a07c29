"""Occlusion as a method: its settings, and how its maps appear.

`jaxsal.saliency.occlusion` computes it (Zeiler & Fergus 2014).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from jaxsal.errors import InputError, require_memory, require_one_of
from jaxsal.options import option
from jaxsal.saliency.methods.appearance import SIGNED, Appearance
from jaxsal.saliency.methods.method import Method
from jaxsal.settings import INFILLS, Infill, memory_option


@dataclass(frozen=True)
class OcclusionSettings:
    """How occlusion maps are computed (Zeiler & Fergus 2014).

    Attributes:
        target: output channel whose logit is explained, as in `SmoothGradSettings`.
        box: edge of the boxes that are infilled, in mm; they lie half of it apart. 10 mm hide a
            lesion of 500 mm³ whole; half the size takes eight times as many windows.
        radius: how far from a lesion boxes lie, in mm.
        infill: what takes the place of the image in a box. "mean": of healthy brain within 20 mm of
            the lesion; "blurred": the image blurred by 5 mm; "zero": 0, the mean of the brain.
        channels_together: infill all channels at once, for one map, rather than one after the
            other, for a map of each.
        memory: bytes to stay within. None: a share of what is free on the device.
    """

    method: ClassVar[str] = "occlusion"

    target: int | None = None
    box: float = option(10.0, "MM")
    radius: float = option(20.0, "MM")
    infill: Infill = option("mean")
    channels_together: bool = option(False)
    memory: int | None = memory_option()

    def __post_init__(self) -> None:
        for name in ("box", "radius"):
            if not 0 < getattr(self, name) < math.inf:
                raise InputError(
                    f"{name} must be more than 0 mm, and finite; got {getattr(self, name)}"
                )
        require_one_of("infill", self.infill, INFILLS)
        require_memory(self.memory)


def loss_columns(channels: Sequence[str]) -> list[str]:
    """The table's columns of what the logits lose without a channel."""
    return [f"{channel}_loss" for channel in channels]


def _appearance(settings: OcclusionSettings, level: str, channels: Sequence[str]) -> Appearance:
    losses = {
        column: f"what the mean logit loses when the lesion and {settings.radius:g} mm around it "
        f"are infilled ({settings.infill}) in {channel} alone"
        for column, channel in zip(loss_columns(channels), channels, strict=True)
    }
    if settings.channels_together:
        return Appearance(("occlusion",), ("occlusion",), SIGNED, "logits", figures=losses)
    return Appearance.of_channels("occlusion", channels, units="logits", figures=losses)


METHOD = Method(
    name="occlusion",
    summary="what the logits lose when boxes of the image are infilled; forward passes only",
    settings=OcclusionSettings,
    maps="jaxsal.saliency.occlusion:maps_of_domains",
    appearance=_appearance,
    count="jaxsal.saliency.occlusion:windows_of",
    in_scene=True,
    apart=True,
)
