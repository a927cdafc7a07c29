"""How well lesions were segmented and detected, against a reference.

What is not defined, such as the share of missed lesions where there are none, is NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from jaxsal.errors import InputError
from jaxsal.grid import Grid
from jaxsal.lesions import MINIMUM_VOLUME, Instance, label_lesions

LESION_LOAD = 0.001
"""Share of lesion voxels r in a volume to which the normalised Dice is scaled (Raina et al.)."""


def dice(prediction: np.ndarray, reference: np.ndarray) -> float:
    """Dice score 2·TP / (2·TP + FP + FN) of two masks (Dice 1945).

    Args:
        prediction: lesion voxels (X, Y, Z), not zero inside.
        reference: the true ones, likewise.

    Returns:
        From 0 to 1; 1 if both masks are empty.

    Raises:
        InputError: the masks differ in shape.
    """
    true, false, missed, _ = _overlap(prediction, reference)
    return _score(true, false, missed)


def normalised_dice(
    prediction: np.ndarray, reference: np.ndarray, lesion_load: float = LESION_LOAD
) -> float:
    """Dice score that does not grow with a scan's lesion load (Raina et al. 2023, nDSC).

    That is 2·TP / (2·TP + κ·FP + FN), κ = (1 - r)·P / (r·(V - P)), of P true lesion voxels among V:
    false positives count as if the true ones were a share r of the volume. κ is 1 where P = 0.
    The score depends on V, and so on how much background an image has.

    Source: Raina et al., "Tackling bias in the Dice similarity coefficient: introducing nDSC for
    white matter lesion segmentation", ISBI 2023.

    Args:
        prediction: lesion voxels (X, Y, Z), not zero inside.
        reference: the true ones, likewise.
        lesion_load: r, more than 0 and less than 1.

    Returns:
        From 0 to 1; 1 if both masks are empty.

    Raises:
        InputError: the masks differ in shape, or r is out of range.
    """
    if not 0 < lesion_load < 1:
        raise InputError(f"the lesion load must be more than 0 and less than 1, got {lesion_load}")
    true, false, missed, voxels = _overlap(prediction, reference)
    positive = true + missed
    # Without true voxels κ is 1 by definition; without others there are no false positives.
    scale = 1.0
    if 0 < positive < voxels:
        scale = (1 - lesion_load) * positive / (lesion_load * (voxels - positive))
    return _score(true, scale * false, missed)


def _overlap(prediction: np.ndarray, reference: np.ndarray) -> tuple[int, int, int, int]:
    """Numbers of true positive, false positive and missed voxels, and of all."""
    if prediction.shape != reference.shape:
        raise InputError(
            "prediction and reference must have the same shape, got "
            f"{prediction.shape} and {reference.shape}"
        )
    predicted, real = prediction != 0, reference != 0
    true = int(np.count_nonzero(predicted & real))
    false = int(np.count_nonzero(predicted)) - true
    missed = int(np.count_nonzero(real)) - true
    return true, false, missed, predicted.size


def _score(true: float, false: float, missed: float) -> float:
    return 1.0 if true + false + missed == 0 else 2 * true / (2 * true + false + missed)


@dataclass(frozen=True)
class LesionCounts:
    """Numbers of lesions against a reference (Spagnolo et al. 2026).

    A true lesion that was found in several pieces is several TP. One of which only pieces were
    found that are too small for a lesion is neither TP nor FN, and in none of the rates.

    Attributes:
        tp: predicted lesions that share a voxel with the reference.
        fp: predicted lesions that do not.
        fn: lesions of the reference not one voxel of which is predicted, not even by a component
            that is too small for a lesion.
    """

    tp: int
    fp: int
    fn: int

    @classmethod
    def of(cls, instances: Iterable[Instance]) -> LesionCounts:
        """Counts the instances of `jaxsal.lesions.label_lesions` in a scan with a reference."""
        kinds = [instance.kind for instance in instances]
        return cls(kinds.count("TP"), kinds.count("FP"), kinds.count("FN"))

    def rates(self) -> dict[str, float]:
        """Each of `LESION_RATES`; NaN where it is not defined."""
        return {name: float(rate(self.tp, self.fp, self.fn)) for name, rate in LESION_RATES.items()}


def count_lesions(
    prediction: np.ndarray,
    reference: np.ndarray,
    grid: Grid,
    minimum_volume: float = MINIMUM_VOLUME,
) -> LesionCounts:
    """Counts lesions: 18-connected components larger than a minimum volume, matched by overlap.

    Components of the prediction up to the minimum volume are no lesions, but a true lesion that
    they touch is not missed: see `LesionCounts`.

    Args:
        prediction: lesion voxels (X, Y, Z), not zero inside.
        reference: the true ones, likewise.
        grid: of both.
        minimum_volume: in mm³, of lesions of either.

    Raises:
        InputError: a mask is not on the grid.
    """
    _, instances = label_lesions(prediction != 0, grid, reference, minimum_volume)
    return LesionCounts.of(instances)


def true_positive_rate(tp: ArrayLike, fp: ArrayLike, fn: ArrayLike) -> np.ndarray:
    """Share of lesions that are found, TP / (TP + FN); NaN where both are 0."""
    return _share(tp, np.add(tp, fn))


def false_discovery_rate(tp: ArrayLike, fp: ArrayLike, fn: ArrayLike) -> np.ndarray:
    """Share of predicted lesions that are false, FP / (TP + FP); NaN without predicted ones."""
    return _share(fp, np.add(tp, fp))


def false_negative_rate(tp: ArrayLike, fp: ArrayLike, fn: ArrayLike) -> np.ndarray:
    """Share of lesions that are missed, FN / (TP + FN); NaN where both are 0."""
    return _share(fn, np.add(tp, fn))


def f1_score(tp: ArrayLike, fp: ArrayLike, fn: ArrayLike) -> np.ndarray:
    """Lesion-wise F1 score, 2·TP / (2·TP + FP + FN); NaN where there is no lesion at all."""
    return _share(np.multiply(tp, 2), np.multiply(tp, 2) + np.add(fp, fn))


LESION_RATES: Mapping[str, Callable[[Any, Any, Any], np.ndarray]] = MappingProxyType(
    {
        "tpr": true_positive_rate,
        "fdr": false_discovery_rate,
        "fnr": false_negative_rate,
        "f1": f1_score,
    }
)
"""Lesion-wise rates of numbers of TP, FP and FN, arrays of one shape or single ones."""


def _share(part: ArrayLike, whole: ArrayLike) -> np.ndarray:
    whole = np.asarray(whole, np.float64)
    return np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)
