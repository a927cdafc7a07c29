"""Medians of more values than can be kept, from counts in narrow classes."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from scipy import stats

from jaxsal.experiments.statistics import FEWEST_SUBJECTS

# Classes are what float32 numbers have in common in their first bits: sign, exponent and the
# beginning of the mantissa. So they are narrow at any magnitude.
_FINE, _COARSE = 13, 17  # bits that are left out: classes of at most 0.1 % and 1.6 %
_CLASSES = 2**31 >> _FINE
_CONFIDENCE = 0.95
_RESAMPLES = 2000
_BATCH = 200
_SEED = 0  # the same values give the same interval

PRECISION = 2.0 ** (_FINE - 24)
"""Largest relative error of a magnitude: half the width of its class."""

Interval = tuple[float, float]
Coarse = tuple[np.ndarray, np.ndarray]
"""Classes of 1.6 % that have any values (N,) uint16, ascending, and how many (N,) uint32."""


class Magnitudes:
    """How many values have which magnitude; of constant size, however many they are."""

    def __init__(self) -> None:
        self._counts = np.zeros(_CLASSES, np.int64)

    def add(self, magnitudes: np.ndarray) -> None:
        """Counts values (V,) float32, none negative, all finite."""
        classes = np.ascontiguousarray(magnitudes, np.float32).view(np.uint32) >> _FINE
        self._counts += np.bincount(classes, minlength=_CLASSES)

    def merge(self, other: Magnitudes) -> None:
        """Counts what another one has counted."""
        self._counts += other._counts

    @property
    def count(self) -> int:
        """Number of values."""
        return int(self._counts.sum())

    @property
    def largest(self) -> float:
        """The largest magnitude, to `PRECISION`; 0 if there are none."""
        filled = np.flatnonzero(self._counts)
        return float(_middles(filled[-1:], _FINE)[0]) if len(filled) else 0.0

    @property
    def median(self) -> float:
        """Of all values, to a relative error of `PRECISION`; NaN if there are none."""
        count = self.count
        if count == 0:
            return float("nan")
        return (self._at((count - 1) // 2) + self._at(count // 2)) / 2

    @property
    def interval(self) -> Interval | None:
        """95 % confidence interval of the median, taking all values for independent.

        By order statistics, which holds for any distribution; None of fewer than six values.
        """
        count = self.count
        rank = int(stats.binom.ppf((1 - _CONFIDENCE) / 2, count, 0.5)) - 1 if count else -1
        return None if rank < 0 else (self._at(rank), self._at(count - 1 - rank))

    def histogram(self, edges: np.ndarray) -> np.ndarray:
        """Numbers of values between edges, each class counted where its middle lies."""
        filled = np.flatnonzero(self._counts)
        middles = _middles(filled, _FINE)
        return np.histogram(middles, edges, weights=self._counts[filled])[0]

    def coarse(self) -> Coarse:
        """Counts of few bytes, to be kept of each of many subjects."""
        counts = self._counts.reshape(-1, 1 << (_COARSE - _FINE)).sum(1)
        filled = np.flatnonzero(counts).astype(np.uint16)
        return filled, counts[filled].astype(np.uint32)

    def _at(self, rank: int) -> float:
        place = np.searchsorted(np.cumsum(self._counts), rank, side="right")
        return float(_middles(np.array([place]), _FINE)[0])


def together(one: Coarse, other: Coarse) -> Coarse:
    """The counts of two, such as two sessions of a subject."""
    classes = np.union1d(one[0], other[0])
    counts = np.zeros(len(classes), np.uint32)
    for filled, numbers in (one, other):
        counts[np.searchsorted(classes, filled)] += numbers
    return classes, counts


def interval_over_subjects(subjects: Collection[Coarse]) -> Interval | None:
    """95 % confidence interval of the median of all subjects' values together.

    The bootstrap's percentile interval (Efron 1979), resampling subjects with all their values:
    those of one subject, and even more those of one map, resemble each other. Values of a class,
    which are at most 1.6 % apart, are taken for evenly spread over it.

    Args:
        subjects: the counts of each, also of those without any value.

    Returns:
        None if there are fewer than `FEWEST_SUBJECTS`, or resamples without any value.
    """
    if len(subjects) < FEWEST_SUBJECTS:
        return None
    classes = np.unique(np.concatenate([filled for filled, _ in subjects]))
    # As float32: a matrix of 10,000 subjects and all classes of six decades fits 60 MB.
    counts = np.zeros((len(subjects), len(classes)), np.float32)
    for row, (filled, numbers) in zip(counts, subjects, strict=True):
        row[np.searchsorted(classes, filled)] = numbers
    rng = np.random.default_rng(_SEED)
    medians = []
    for _ in range(_RESAMPLES // _BATCH):
        drawn = rng.multinomial(len(subjects), np.full(len(subjects), 1 / len(subjects)), _BATCH)
        numbers = drawn.astype(np.float32) @ counts
        if not numbers.size or not numbers.any(axis=1).all():
            return None
        medians.append(_grouped_medians(classes, numbers.astype(np.float64)))
    low, high = np.quantile(np.concatenate(medians), [(1 - _CONFIDENCE) / 2, (1 + _CONFIDENCE) / 2])
    return float(low), float(high)


def _grouped_medians(classes: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """(R,) medians of values of which (R, N) are in each of the coarse classes (N,)."""
    until = np.cumsum(numbers, axis=1)
    half = until[:, -1] / 2
    place = (until >= half[:, None]).argmax(1)
    each = np.arange(len(numbers))
    own = numbers[each, place]
    first, after = _edges(classes[place], _COARSE)
    medians: np.ndarray = first + (half - (until[each, place] - own)) / own * (after - first)
    return medians


def _middles(classes: np.ndarray, bits: int) -> np.ndarray:
    first, after = _edges(classes, bits)
    middles: np.ndarray = (first + after) / 2
    return middles


def _edges(classes: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray]:
    first = (classes.astype(np.uint32) << bits).view(np.float32).astype(np.float64)
    after = ((classes.astype(np.uint32) + 1) << bits).view(np.float32).astype(np.float64)
    return first, after
