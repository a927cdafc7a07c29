"""Which lesions an experiment takes, and what to say where there are none."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from jaxsal.lesions import Instance
from jaxsal.scan.predict import Prediction

FOUND = ("TP", "predicted", "given")
"""Kinds of lesions that the network found as far as is known; all of these without a reference."""

_ROUNDING = 1e-5  # of volumes, since affines are rounded


def of_volume(instances: Iterable[Instance], volume: tuple[float, float]) -> list[Instance]:
    """Lesions that were found and are from so large to so large, in mm³, both included."""
    low, high = volume[0] * (1 - _ROUNDING), volume[1] * (1 + _ROUNDING)
    return [each for each in instances if each.kind in FOUND and low <= each.volume_mm3 <= high]


def clearest(instances: Iterable[Instance], prediction: Prediction) -> list[Instance]:
    """Lesions by their mean probability, the highest first."""

    def mean(each: Instance) -> float:
        inside = prediction.labels[each.slices] == each.label
        return float(prediction.probability[each.slices][inside].mean())

    return sorted(instances, key=mean, reverse=True)


def none_of_volume(volumes: Sequence[float], wanted: tuple[float, float]) -> str:
    """Says that no lesion is of a volume, and proposes another range.

    Args:
        volumes: of the lesions that were found, in mm³.
        wanted: smallest and largest.
    """
    told = f"no lesion that was found has {wanted[0]:g} to {wanted[1]:g} mm³"
    return f"{told}; {another_range(volumes)}"


def another_range(volumes: Sequence[float]) -> str:
    """Proposes a range of volumes in mm³: the larger half of the lesions, without the largest.

    Small lesions are many; most experiments ask of those that are clearly visible.
    """
    if not len(volumes):
        return "none was found at all"
    low, high = np.floor(np.quantile(volumes, 0.5)), np.ceil(np.quantile(volumes, 0.9))
    number = int(np.sum((np.asarray(volumes) >= low) & (np.asarray(volumes) <= high)))
    return (
        f"{len(volumes)} were found, of {min(volumes):.0f} to {max(volumes):.0f} mm³: "
        f"--volume {low:g}:{high:g} takes {number} of them"
    )
