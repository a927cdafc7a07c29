"""Settings of the experiments, with their defaults; see `jaxsal.options`. Imports nothing heavy."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from jaxsal.errors import InputError
from jaxsal.options import option

VIEWS = ("centred", "field")


def _pair(text: str) -> tuple[float, float]:
    try:
        low, high = map(float, text.split(":"))
    except ValueError as error:
        raise ValueError("must be two numbers with a colon between, such as 90:120") from error
    return low, high


def _volume() -> Any:
    return option((90.0, 120.0), "MM3:MM3", parse=_pair, shown="90:120")


def _white_matter() -> Any:
    return option(None, "DIR")


@dataclass(frozen=True)
class Settings:
    """What the command line needs of an experiment.

    Attributes:
        uses_saliency: whether maps are computed.
        uses_maps: whether those of the cohort's own lesions are among them, which an earlier run
            may have computed.
    """

    uses_saliency: ClassVar[bool] = True
    uses_maps: ClassVar[bool] = True


@dataclass(frozen=True)
class AggregationSettings(Settings):
    """A large and a small lesion's map by the maximum and by the mean (Fig. 7)."""


@dataclass(frozen=True)
class LevelsSettings(Settings):
    """The map of all segmented voxels beside those of single lesions (Figs. 3, 10)."""


@dataclass(frozen=True)
class ContributionsSettings(Settings):
    """Positive and negative values of each sequence, and where they lie (Figs. 8, 9).

    Attributes:
        least_value: magnitude below which values do not count, in logits per standard deviation.
    """

    least_value: float = option(0.1, "T")

    def __post_init__(self) -> None:
        if not 0 <= self.least_value < math.inf:
            raise InputError(f"least value must be zero or more, got {self.least_value}")


@dataclass(frozen=True)
class GroupsSettings(Settings):
    """Peaks of the maps of found, false and missed lesions and of none (Fig. 11).

    Attributes:
        spheres: spheres per scan of tissue that is no lesion (TN).
        volume: volume of a sphere, in mm³.
    """

    spheres: int = option(10, "N")
    volume: float = option(93.0, "MM3")

    def __post_init__(self) -> None:
        if self.spheres < 0:
            raise InputError(f"spheres must be zero or more, got {self.spheres}")
        if not 0 < self.volume < math.inf:
            raise InputError(f"volume must be more than zero, got {self.volume}")


@dataclass(frozen=True)
class ContextSettings(Settings):
    """How much of a lesion's surroundings the network needs to find it (Fig. 15).

    Attributes:
        volume: smallest and largest lesion, in mm³, both included.
        steps: largest number of dilations by one voxel.
        view: what the network is run on. "centred": one window around each lesion; "field": all
            windows that reach it, blended as where lesions are found, which takes as many times as
            long.
        batch: windows that are computed at once; more take more memory.
    """

    uses_saliency: ClassVar[bool] = False
    uses_maps: ClassVar[bool] = False

    volume: tuple[float, float] = _volume()
    steps: int = option(35, "N")
    view: str = option("centred", choices=VIEWS)
    batch: int = option(4, "N")

    def __post_init__(self) -> None:
        _check_range("volume", self.volume)
        if not 1 <= self.steps <= 254:
            raise InputError(f"steps must be from 1 to 254, got {self.steps}")
        if self.view not in VIEWS:
            raise InputError(f"view must be {' or '.join(VIEWS)}, got {self.view!r}")
        if self.batch < 1:
            raise InputError(f"batch must be 1 or more, got {self.batch}")


@dataclass(frozen=True)
class SyntheticSettings(Settings):
    """Lesions copied into healthy white matter, and out of the head (Fig. 14).

    Attributes:
        volume: smallest and largest lesion, in mm³, both included.
        lesions: lesions per scan at most, those first that are seen most clearly.
        surroundings: mm around a lesion that are copied along, in one of the situations.
        white_matter: folder of masks of white matter, one per scan, named after the scan as its
            results are, such as sub-01.nii.gz. None: a rule on FLAIR and T1 finds it.
    """

    uses_maps: ClassVar[bool] = False

    volume: tuple[float, float] = _volume()
    lesions: int = option(1, "N")
    surroundings: float = option(3.0, "MM")
    white_matter: str | None = _white_matter()

    def __post_init__(self) -> None:
        _check_range("volume", self.volume)
        if self.lesions < 1:
            raise InputError(f"lesions must be 1 or more, got {self.lesions}")
        if not 0 < self.surroundings < 100:
            raise InputError(
                f"surroundings must be more than 0 and less than 100 mm, got {self.surroundings}"
            )


@dataclass(frozen=True)
class SanitySettings(Settings):
    """Maps of healthy white matter, and of a lesion's middle voxel alone (Figs. 12, 13).

    Attributes:
        volume: smallest and largest lesion to compare with, in mm³, both included.
        lesions: lesions per scan to compare with at most, those first that are seen most clearly.
        spheres: spheres per scan of white matter, and as many of what is no lesion (TN).
        sphere_volume: volume of a sphere, in mm³.
        white_matter: folder of masks of white matter, one per scan, named after the scan as its
            results are, such as sub-01.nii.gz. None: a rule on FLAIR and T1 finds it.
    """

    uses_maps: ClassVar[bool] = False

    volume: tuple[float, float] = _volume()
    lesions: int = option(3, "N")
    spheres: int = option(3, "N")
    sphere_volume: float = option(93.0, "MM3")
    white_matter: str | None = _white_matter()

    def __post_init__(self) -> None:
        _check_range("volume", self.volume)
        for name in ("lesions", "spheres"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be 1 or more, got {getattr(self, name)}")
        if not self.sphere_volume > 0:
            raise InputError(f"sphere volume must be more than zero, got {self.sphere_volume}")


def _check_range(name: str, bounds: tuple[float, float]) -> None:
    low, high = bounds
    if not 0 <= low <= high:
        raise InputError(
            f"{name} must be the smallest and the largest, such as 90:120, got {low:g}:{high:g}"
        )


SETTINGS: dict[str, type[Settings]] = {
    "aggregation": AggregationSettings,
    "levels": LevelsSettings,
    "contributions": ContributionsSettings,
    "groups": GroupsSettings,
    "sanity": SanitySettings,
    "synthetic": SyntheticSettings,
    "context": ContextSettings,
}
