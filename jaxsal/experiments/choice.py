"""Which lesions an experiment takes: its range of volumes, and what it notes if none is within."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxsal.errors import InputError
from jaxsal.experiments.derived import generator_of
from jaxsal.options import option

if TYPE_CHECKING:
    from jaxsal.box import Box
    from jaxsal.experiments.study import Study
    from jaxsal.inputs.entries import Entry
    from jaxsal.lesions import Instance
    from jaxsal.scan.prediction import Prediction


def require_references(study: Study) -> None:
    """Notes which scans have no mask of the true lesions.

    Raises:
        InputError: none has one.
    """
    if not any(entry.scan.reference for entry in study.entries):
        raise InputError(
            "masks of the true lesions decide which are found, false or missed, and no "
            "scan has one: give it in a column 'reference', or select it in a BIDS folder"
        )
    without = [entry.id for entry in study.entries if entry.scan.reference is None]
    if without:
        study.note(f"left out, since without a reference: {', '.join(without)}")


FOUND = ("TP", "predicted", "given")
"""Kinds of lesions that the network found, as far as is known: without a reference, all."""

_ROUNDING = 1e-5  # of volumes, since affines are rounded


def volume_option() -> Any:
    """A smallest and a largest volume in mm³; on the command line 90:120."""
    return option((90.0, 120.0), "MM3:MM3", parse=pair, shown="90:120")


def pair(text: str) -> tuple[float, float]:
    """Two numbers as the command line has them, 90:120."""
    try:
        low, high = map(float, text.split(":"))
    except ValueError as error:
        raise ValueError("must be two numbers with a colon between, such as 90:120") from error
    return low, high


def check_range(name: str, bounds: tuple[float, float]) -> None:
    """Refuses bounds that are no range.

    Raises:
        InputError: they are negative, or the second is smaller than the first.
    """
    low, high = bounds
    if not 0 <= low <= high:
        raise InputError(
            f"{name} must be the smallest and the largest, such as 90:120, got {low:g}:{high:g}"
        )


def of_volume(instances: Iterable[Instance], volume: tuple[float, float]) -> list[Instance]:
    """Lesions that the network found whose volume in mm³ lies in a range, ends included."""
    return [e for e in instances if e.kind in FOUND and is_within(e.volume_mm3, volume)]


def unfit(box: Box, prediction: Prediction) -> str:
    """Why a domain in a box of a scan cannot be asked about; empty if it can.

    Some networks are given a part of the image only, such as the box of what is not zero.
    """
    if box & prediction.scan.box == box:
        return ""
    return "it reaches beyond the part of the image that the network is given"


def left_out(entry: Entry, lesion: Instance, reason: str) -> str:
    """A note that a lesion is, and why."""
    return f"{entry.id}: lesion {lesion.label} is left out: {reason}"


def clearest(instances: Iterable[Instance], prediction: Prediction) -> list[Instance]:
    """Lesions by their mean probability, the highest first."""

    def mean(each: Instance) -> float:
        inside = each.box.cut(prediction.labels) == each.label
        return float(each.box.cut(prediction.probability)[inside].mean())

    return sorted(instances, key=mean, reverse=True)


def sampled(entry: Entry, prediction: Prediction, most: int, seed: int) -> list[Instance]:
    """Lesions of a scan that the network found, so many at most, at random, by their labels."""
    found = [each for each in prediction.instances if each.kind in FOUND]
    drawn = generator_of(entry, seed).permutation(len(found))[:most]
    return [found[index] for index in sorted(drawn)]


def none_of_volume(volumes: Sequence[float], wanted: tuple[float, float]) -> str:
    """A note that no lesion has a volume in a range, with another range to try; "" if one has.

    Args:
        volumes: of the lesions that were found, in mm³.
        wanted: smallest and largest.
    """
    if any(is_within(volume, wanted) for volume in volumes):
        return ""
    advice = another_range(volumes, wanted)
    none = f"no lesion that was found has {wanted[0]:g} to {wanted[1]:g} mm³"
    return f"{none}; {advice}" if advice else none


def another_range(volumes: Sequence[float], wanted: tuple[float, float]) -> str:
    """Advises a range of volumes in mm³ that takes all lesions; "" if the wanted one does.

    Args:
        volumes: of the lesions that were found, in mm³.
        wanted: smallest and largest.
    """
    if not len(volumes):
        return "none was found at all"
    if all(is_within(volume, wanted) for volume in volumes):
        return ""
    return (
        f"{len(volumes)} found, of {min(volumes):.4g} to {max(volumes):.4g} mm³: "
        f"--volume {np.floor(min(volumes)):.0f}:{np.ceil(max(volumes)):.0f} takes all of them"
    )


def is_within(volume_mm3: float, bounds: tuple[float, float]) -> bool:
    """Whether a volume lies in a range, ends included, as exactly as affines are known."""
    low, high = bounds[0] * (1 - _ROUNDING), bounds[1] * (1 + _ROUNDING)
    return low <= volume_mm3 <= high
