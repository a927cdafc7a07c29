"""The regression that tells false lesions from true ones, and how it is judged fairly."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special

from jaxsal.extras import import_extra

STRENGTH = 1.0
"""C of scikit-learn: the inverse of the weight of the squared coefficients; its default."""

_ITERATIONS = 10_000  # for features that are nearly the same; a fit takes a few hundred
_EXTRA = ("statistics", "fitting a detector", "scikit-learn")


@dataclass(frozen=True)
class Logistic:
    """A logistic regression on standardised features.

    Attributes:
        coefficients: one for each feature (F,).
        intercept: log odds where all features are at their mean.
        means: of the features, in the lesions that it was fitted on (F,).
        scales: standard deviations of the features there, 1 for a constant one (F,).
    """

    coefficients: tuple[float, ...]
    intercept: float
    means: tuple[float, ...]
    scales: tuple[float, ...]

    def probability(self, features: np.ndarray) -> np.ndarray:
        """Of being a true lesion (L,), from features (L, F)."""
        standard = (features - np.array(self.means)) / np.array(self.scales)
        found: np.ndarray = special.expit(standard @ np.array(self.coefficients) + self.intercept)
        return found


def require_library() -> None:
    """Refuses to go on without scikit-learn.

    Raises:
        InputError: it is not installed.
    """
    _module("linear_model")


def _module(name: str) -> Any:
    return import_extra(f"sklearn.{name}", *_EXTRA)


def fitted(features: np.ndarray, true: np.ndarray) -> Logistic:
    """The regression with L2 penalty, by scikit-learn, without weights of the classes.

    Args:
        features: (L, F) float.
        true: (L,) bool, some of each.

    Raises:
        InputError: scikit-learn is not installed.
    """
    scaler = _module("preprocessing").StandardScaler().fit(features)
    regression = _module("linear_model").LogisticRegression(C=STRENGTH, max_iter=_ITERATIONS)
    regression.fit(scaler.transform(features), true)
    return Logistic(
        tuple(regression.coef_[0].tolist()),
        float(regression.intercept_[0]),
        tuple(scaler.mean_.tolist()),
        tuple(scaler.scale_.tolist()),
    )


def threshold_that_loses(probability: np.ndarray, true: np.ndarray, share: float) -> float:
    """The highest threshold below which lies at most this share of the true lesions.

    Args:
        probability: (L,) of being true.
        true: (L,) bool, at least one.
        share: from 0 to 1, of the true ones.
    """
    kept = np.sort(probability[true])
    return float(kept[min(int(share * len(kept)), len(kept) - 1)])


@dataclass(frozen=True)
class HeldOut:
    """What regressions say of lesions of patients that they were not fitted on.

    Attributes:
        probability: (L,) of being true; NaN in folds without a regression.
        kept: (L,) bool, whether it reaches the threshold of the fold's own training lesions.
        fold: (L,) int from 0 on; -1 in folds without a regression.
    """

    probability: np.ndarray
    kept: np.ndarray
    fold: np.ndarray


def held_out(
    features: np.ndarray, true: np.ndarray, patients: Sequence[str], folds: int, lost: float
) -> HeldOut:
    """Each patient's lesions by a regression on the others', in folds of whole patients.

    A fold whose training lesions are all true, or all false, has no regression.

    Args:
        features: (L, F).
        true: (L,) bool.
        patients: whose each lesion is (L,), at least two.
        folds: at most; there are no more than patients.
        lost: share of the training folds' true lesions that the threshold may lose.

    Raises:
        InputError: scikit-learn is not installed.
    """
    probability = np.full(len(true), np.nan)
    kept = np.ones(len(true), bool)
    fold = np.full(len(true), -1)
    for number, (training, tested) in enumerate(_folds(patients, folds)):
        own = true[training]
        if own.all() or not own.any():
            continue
        regression = fitted(features[training], own)
        threshold = threshold_that_loses(regression.probability(features[training]), own, lost)
        probability[tested] = regression.probability(features[tested])
        kept[tested] = probability[tested] >= threshold
        fold[tested] = number
    return HeldOut(probability, kept, fold)


def _folds(patients: Sequence[str], folds: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    splits = min(folds, len(set(patients)))
    split = _module("model_selection").GroupKFold(n_splits=splits).split
    yield from split(np.zeros((len(patients), 1)), groups=list(patients))
