"""Settings of the experiments, with their defaults. Imports nothing heavy.

What a field's metadata tells becomes the help of the command line's option of its name.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from jaxsal.errors import InputError


def option(default: Any, text: str, metavar: str) -> Any:
    """A setting that the command line offers as an option.

    Args:
        default: of the type that the option has; a pair is given as LOW:HIGH.
        text: the option's help.
        metavar: what stands for its value.
    """
    return field(default=default, metadata={"help": text, "metavar": metavar})


@dataclass(frozen=True)
class AggregationSettings:
    """A large and a small lesion's map by the maximum and by the mean (Fig. 7)."""


@dataclass(frozen=True)
class LevelsSettings:
    """The map of all segmented voxels beside those of single lesions (Figs. 3, 10)."""


@dataclass(frozen=True)
class ContributionsSettings:
    """Positive and negative values of each sequence, and where they lie (Figs. 8, 9).

    Attributes:
        least_value: magnitude below which values do not count, in logits per standard deviation.
    """

    least_value: float = option(0.1, "magnitude below which values do not count", "T")

    def __post_init__(self) -> None:
        if not 0 <= self.least_value < math.inf:
            raise InputError(f"least value must be zero or more, got {self.least_value}")


@dataclass(frozen=True)
class GroupsSettings:
    """Peaks of the maps of found, false and missed lesions and of none (Fig. 11).

    Attributes:
        spheres: per scan, of tissue that is no lesion.
        volume: of a sphere, in mm³.
    """

    spheres: int = option(10, "spheres per scan of what is no lesion (TN)", "N")
    volume: float = option(93.0, "volume of a sphere", "MM3")

    def __post_init__(self) -> None:
        if self.spheres < 0:
            raise InputError(f"spheres must be zero or more, got {self.spheres}")
        if not 0 < self.volume < math.inf:
            raise InputError(f"volume must be more than zero, got {self.volume}")


SETTINGS: dict[str, type] = {
    "aggregation": AggregationSettings,
    "levels": LevelsSettings,
    "contributions": ContributionsSettings,
    "groups": GroupsSettings,
}
