"""SmoothGrad as a method: its settings, what they cost, and how its maps appear.

`jaxsal.saliency.smoothgrad` computes them (Spagnolo et al. 2026, Eqs. 1-3).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, TypeVar, get_args

from jaxsal.approximated import EXACT
from jaxsal.errors import InputError, require_memory, require_one_of, require_seed, require_whole
from jaxsal.options import option
from jaxsal.saliency.methods.appearance import Appearance
from jaxsal.saliency.methods.method import Cost, Method
from jaxsal.settings import FEWEST_SAMPLES, memory_option, seed_option

Aggregate = Literal["max", "mean", "sum"]
NoiseScale = Literal["range", "absolute"]

AGGREGATES: tuple[Aggregate, ...] = get_args(Aggregate)
NOISE_SCALES: tuple[NoiseScale, ...] = get_args(NoiseScale)


@dataclass(frozen=True)
class SmoothGradSettings:
    """How SmoothGrad maps are computed (Spagnolo et al. 2026, Eqs. 1-3).

    Attributes:
        target: output channel whose logit is explained; for networks with a single output
            channel, 0 and 1 both mean that one. None: the model's; see `jaxsal.Model`.
        aggregate: how a lesion's single-voxel gradients become one map. "max": at each voxel the
            one of largest magnitude, with its sign (quantitative, Eq. 3); "mean" (Eq. 2); or "sum".
        samples: number N of noisy images; with a tolerance, the largest number.
        noise: level of the Gaussian noise, or a tuple of levels, one per channel.
        noise_scale: what the level is relative to. "range": a fraction of channel 0's range;
            "absolute": it is the standard deviation, in units of the z-scored image.
        seed: of the noise; equal seeds give equal noise in any batch, window or device.
        voxels_per_lesion: approximate "max", for lesions of thousands of voxels: differentiate only
            this many voxels of each lesion, a stratified sample, the same for all noisy images and
            seeds. None: all voxels, exact.
        group_size: approximate "max" as the published scripts can: the maximum is taken over
            gradients of the summed logits of this many consecutive voxels, which is exact
            for one.
        tolerance: add no more noisy images to a lesion's map when its standard error, relative to
            the map's peak, is below this, such as 0.05. None: always all samples.
        standard_error: compute the standard error of each map over the noisy images, too.
        memory: bytes to stay within. None: a share of what is free on the device.
        voxel_batch: gradients computed at once. None: the largest batch that fits the memory and
            still lowers the time per gradient.
        noise_batch: noisy images computed at once per device. None: one, and more where lesions
            have too few voxels to make full use of a device. Results depend on either by
            rounding only.
    """

    method: ClassVar[str] = "smoothgrad"

    target: int | None = None
    aggregate: Aggregate = option("max")
    samples: int = option(50, "N")
    noise: float | tuple[float, ...] = option(0.05, "LEVEL", help="level of the Gaussian noise")
    noise_scale: NoiseScale = option("range")
    seed: int = seed_option()
    voxels_per_lesion: int | None = option(None, "K")
    group_size: int = option(1, "G")
    tolerance: float | None = option(None, "T")
    standard_error: bool = option(
        False, help="save the standard error of each map beside it, as ..._se.nii.gz"
    )
    memory: int | None = memory_option()
    voxel_batch: int | None = None
    noise_batch: int | None = None

    def __post_init__(self) -> None:
        require_one_of("aggregate", self.aggregate, AGGREGATES)
        require_one_of("noise scale", self.noise_scale, NOISE_SCALES)
        for name in ("samples", "group_size"):
            require_whole(name, getattr(self, name))
        for name in ("voxels_per_lesion", "voxel_batch", "noise_batch"):
            if getattr(self, name) is not None:
                require_whole(name, getattr(self, name))
        self._check_noise()
        require_seed(self.seed)
        require_memory(self.memory)
        self._check_approximation()
        self._check_standard_error()

    def approximation(self, voxels: int) -> str:
        """Of a lesion of so many voxels: "30 of 2984 voxels", "sums of 8 voxels", or "exact"."""
        if self.voxels_per_lesion is not None and voxels > self.voxels_per_lesion:
            return f"{self.voxels_per_lesion} of {voxels} voxels"
        if self.group_size > 1 and voxels > 1:
            return f"sums of {min(self.group_size, voxels)} voxels"
        return EXACT

    def _check_noise(self) -> None:
        if isinstance(self.noise, list):  # as JSON has it
            object.__setattr__(self, "noise", tuple(self.noise))
        levels = self.noise if isinstance(self.noise, tuple) else (self.noise,)
        if not levels or not all(0 <= level < math.inf for level in levels):
            raise InputError(
                f"noise must be a level of zero or more, or one per channel; got {self.noise}"
            )

    def gradients(self, voxels: int) -> int:
        """How many gradients a lesion of so many voxels takes per noisy image, and window."""
        if self.aggregate != "max":
            return 1
        return min(-(-voxels // self.group_size), self.voxels_per_lesion or voxels)

    def _check_approximation(self) -> None:
        used = [
            f"{name} {value}"
            for name, value, exact in (
                ("voxels_per_lesion", self.voxels_per_lesion, None),
                ("group_size", self.group_size, 1),
            )
            if value != exact
        ]
        if len(used) > 1:
            raise InputError(f"approximate in one way, not in two: {' and '.join(used)}")
        if used and self.aggregate != "max":
            raise InputError(
                f"{used[0]} approximates the signed maximum; it does not go with the aggregate "
                f"{self.aggregate!r}, whose exact map takes no longer"
            )

    def _check_standard_error(self) -> None:
        if self.tolerance is not None and not 0 < self.tolerance < 1:
            raise InputError(
                f"tolerance must be between 0 and 1, a share of the peak, got {self.tolerance}"
            )
        if self.samples < 2 and self.standard_error:
            raise InputError(f"a standard error needs 2 samples or more, got {self.samples}")
        if self.samples <= FEWEST_SAMPLES and self.tolerance is not None:
            raise InputError(
                f"a tolerance is looked at after {FEWEST_SAMPLES} samples; allow more than that, "
                f"got {self.samples}"
            )


S = TypeVar("S", bound=SmoothGradSettings)


def variant_of(settings: SmoothGradSettings, level: str) -> str:
    """The name in files and tables: with the aggregate, where there is one."""
    if level == "class":
        return settings.method
    return f"{settings.method}-{settings.aggregate}"


def titled(method: str, settings: SmoothGradSettings) -> str:
    """What a picture's title says of a map from noisy images: the method and their number N."""
    return f", {method}, N {'=' if settings.tolerance is None else '≤'} {settings.samples}"


def _appearance(settings: SmoothGradSettings, level: str, channels: Sequence[str]) -> Appearance:
    return Appearance.of_channels(
        variant_of(settings, level),
        channels,
        maps=tuple(channels),
        subtitle=titled("SmoothGrad", settings),
        averaged=True,
        approximation=settings.approximation,
        standard_error=settings.standard_error,
    )


def resolved(settings: S, model: Any, level: str) -> S:
    """The settings as they take effect: at class level a sum."""
    return replace(settings, aggregate="sum") if level == "class" else settings  # Eq. 1


def refuse(settings: SmoothGradSettings, level: str, given: Collection[str]) -> None:
    """Refuses what does not go with the class level."""
    if level == "class" and "aggregate" in given:
        raise InputError("--aggregate is for the instance level; the class level is a sum (Eq. 1)")
    approximate = settings.voxels_per_lesion is not None or settings.group_size != 1
    if level == "class" and approximate:
        raise InputError(
            "voxels_per_lesion and group_size approximate the signed maximum of a lesion; "
            "they do not go with the class level"
        )


def cost_of(settings: SmoothGradSettings) -> Cost:
    """What the maps take."""
    return Cost(
        gradients=settings.gradients,
        images=settings.samples,
        per="voxel" if settings.aggregate == "max" else "lesion",
        at_most=settings.tolerance is not None,
    )


def _quick(settings: SmoothGradSettings) -> SmoothGradSettings:
    return replace(settings, samples=min(settings.samples, 2), tolerance=None)


METHOD = Method(
    name="smoothgrad",
    summary="maps from gradients of the image's voxels, one per channel",
    settings=SmoothGradSettings,
    maps="jaxsal.saliency.smoothgrad:maps_of_domains",
    appearance=_appearance,
    variant=variant_of,
    resolved=resolved,
    refuse=refuse,
    cost=cost_of,
    quick=_quick,
    count="jaxsal.saliency.smoothgrad:gradients_of",
)
