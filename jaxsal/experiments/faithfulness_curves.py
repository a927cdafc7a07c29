"""Curves of a lesion's logits as the voxels around it are hidden, or shown, one after the other.

Source: Petsiuk et al., "RISE", BMVC 2018 (deletion and insertion).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from jaxsal.experiments.faithfulness_ranking import Surroundings
from jaxsal.lesions import lesion_probability
from jaxsal.saliency.hiding import Hiding, Question
from jaxsal.tables import Row

PERCENT = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0)
"""Which parts of the voxels are hidden, or shown."""

DIRECTIONS = ("deletion", "insertion")
ALL = "all"
"""What is said in place of a channel where all are hidden together."""

Orders = Mapping[tuple[str, str], np.ndarray]
"""Orders of voxels by method and channel, or `ALL`."""


@dataclass(frozen=True)
class Curve:
    """What a lesion's voxels say along the parts of `PERCENT`.

    Attributes:
        method: whose ranking it is.
        channel: in which voxels are hidden, or `ALL`.
        direction: "deletion": the first ones are hidden; "insertion": all but the first ones are.
        logit: (9,) mean logit over the lesion.
        probability: (9,) mean lesion probability over it.
        highest: (9,) the highest of them.
    """

    method: str
    channel: str
    direction: str
    logit: np.ndarray
    probability: np.ndarray
    highest: np.ndarray


def question_of(
    around: Surroundings, orders: Orders, channels: Sequence[str], infill: np.ndarray
) -> Question:
    """What is hidden of the image for all curves of a lesion; see `curves_of`."""
    hidings = []
    for channel in _channels(orders):
        chosen = np.array([channel in (ALL, name) for name in channels])
        hidings.append(Hiding(around.region, around.near, chosen))
        for order in _orders_of(orders, channel).values():
            for percent in PERCENT[1:-1]:
                first = around.first(order, percent)
                hidings.append(Hiding(around.region, first, chosen))
                hidings.append(Hiding(around.region, around.near & ~first, chosen))
    return Question(np.argwhere(around.omega), infill, hidings)


def curves_of(logits: np.ndarray, orders: Orders, target: int, probability: str) -> list[Curve]:
    """The curves of a lesion.

    Args:
        logits: (1 + H, V, K), the answer to `question_of`.
        orders: as they were asked with.
        target: output channel of the lesion class.
        probability: how probabilities come of logits, as of a `jaxsal.field.plan.LogitField`.
    """
    found = lesion_probability(logits, target, probability)
    # (3, 1 + H): logit, probability and the highest one
    said = np.stack([logits[..., target].mean(1), found.mean(1), found.max(1)])
    curves, at = [], 1
    for channel in _channels(orders):
        nothing, everything = said[:, :1], said[:, at : at + 1]
        at += 1
        for method in _orders_of(orders, channel):
            between = said[:, at : at + 2 * (len(PERCENT) - 2)]
            at += between.shape[1]
            deleted = np.concatenate([nothing, between[:, ::2], everything], axis=1)
            inserted = np.concatenate([everything, between[:, 1::2], nothing], axis=1)
            for direction, values in zip(DIRECTIONS, (deleted, inserted), strict=True):
                curves.append(Curve(method, channel, direction, *values))
    return curves


def _channels(orders: Orders) -> list[str]:
    return list(dict.fromkeys(channel for _, channel in orders))


def _orders_of(orders: Orders, channel: str) -> dict[str, np.ndarray]:
    return {method: order for (method, own), order in orders.items() if own == channel}


LEAST_PROBABILITY = 0.05
"""By how much infilling all must lower the mean probability for its curve to have an area."""


def normalised(direction: str, values: np.ndarray, least: float = 0.0) -> np.ndarray | None:
    """Values (9,) of a curve such that the image as it is is 1, and with all infilled 0.

    None where infilling all does not lower the value, or by less than `least`: then hardly anything
    is to be explained by it, and heights are quotients by nearly 0.
    """
    whole, hidden = values[[0, -1]] if direction == "deletion" else values[[-1, 0]]
    drop = whole - hidden
    return (values - hidden) / drop if drop > 0 and drop >= least else None


def area(direction: str, values: np.ndarray, least: float = 0.0) -> float | None:
    """Area under the normalised curve, over the part of the voxels from 0 to 1 (trapezoids).

    The smaller the better for deletion, the larger the better for insertion. None as of
    `normalised`.
    """
    heights = normalised(direction, values, least)
    return None if heights is None else float(np.trapezoid(heights, np.divide(PERCENT, 100)))


def with_area(row: Row, least: float) -> Row:
    """A row of the table with `auc`, the `area` of its logits."""
    return {**row, "auc": area(row["direction"], _logits(row), least)}


def _logits(row: Row) -> np.ndarray:
    return np.array([row[f"logit_{percent:g}"] for percent in PERCENT], np.float64)


def heights_of(row: Row) -> np.ndarray:
    """The normalised curve (9,) of a row of the table that has an area."""
    heights = normalised(row["direction"], _logits(row))
    assert heights is not None
    return heights


def turning_percent(direction: str, highest: np.ndarray, threshold: float) -> float | None:
    """From which part on the lesion is missed (deletion) or found (insertion); None: from none.

    Args:
        direction: of the curve.
        highest: (9,) lesion probability of the most probable voxel.
        threshold: at and above which a voxel is lesion.
    """
    turned = (highest >= threshold) == (direction == "insertion")
    stays = np.logical_and.accumulate(turned[::-1])[::-1]
    return PERCENT[int(np.argmax(stays))] if stays.any() else None
