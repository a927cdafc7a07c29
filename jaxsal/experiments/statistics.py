"""Medians of groups, and how groups differ."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy import stats

from jaxsal.evaluation.intervals import statistic_over_patients
from jaxsal.tables import Row
from jaxsal.wording import counted

FEWEST_IN_GROUP = 5
"""Values that a group needs for a test or a correlation; of fewer there is none."""

FEWEST_SUBJECTS = 6
"""For an interval: even from the smallest to the largest of n values, it covers 1 - 2^(1-n)."""

Interval = tuple[float, float]


def median_interval(values: Sequence[float] | np.ndarray) -> Interval | None:
    """95 % confidence interval of the median, taking the values for independent.

    By order statistics, which holds for any distribution (`scipy.stats.quantile_test`).

    Returns:
        None for fewer than six values: there is no such interval.
    """
    if not len(values):
        return None
    interval = stats.quantile_test(np.asarray(values, np.float64)).confidence_interval()
    low, high = float(interval.low), float(interval.high)
    return (low, high) if np.isfinite([low, high]).all() else None


@dataclass(frozen=True)
class Difference:
    """How two groups differ, by the two-sided Mann-Whitney U test.

    Attributes:
        statistic: U of the first group.
        p: probability of so large a difference between groups that do not differ.
        superiority: probability that a value of the first group is larger than one of the second,
            ties counted half; 0.5 is no difference. It is the area under the ROC curve.
    """

    statistic: float
    p: float
    superiority: float

    @property
    def rank_biserial(self) -> float:
        """Effect size from -1 to 1: 2 · superiority - 1."""
        return 2 * self.superiority - 1


def difference(first: np.ndarray, second: np.ndarray) -> Difference | None:
    """The test of two groups of values; None if one has fewer than `FEWEST_IN_GROUP`."""
    if min(len(first), len(second)) < FEWEST_IN_GROUP:
        return None
    found = stats.mannwhitneyu(first, second, alternative="two-sided")
    statistic = float(found.statistic)
    return Difference(statistic, float(found.pvalue), statistic / (len(first) * len(second)))


def area_under_roc(values: np.ndarray) -> float:
    """Area under the ROC curve: of pairs of one class each, how many are in order.

    Args:
        values: (L, 2): a score, and 1 for those that it should be higher of, else 0.

    Returns:
        NaN if there are none of a class.
    """
    positive = values[:, 1] > 0
    first = int(positive.sum())
    other = len(positive) - first
    if not first or not other:
        return float("nan")
    ranks = stats.rankdata(values[:, 0])  # resampled ten thousand times: tests are slower by far
    return float(ranks[positive].sum() - first * (first + 1) / 2) / (first * other)


def area_difference(values: np.ndarray) -> float:
    """By how much the area under the ROC curve of one score exceeds another's, of the same lesions.

    Args:
        values: (L, 3): the score, the other one, and 1 for those that they should be higher of.

    Returns:
        NaN if there are none of a class.
    """
    return area_under_roc(values[:, [0, 2]]) - area_under_roc(values[:, [1, 2]])


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted for their number, so that the chance of any false alarm is kept.

    Source: S. Holm, "A simple sequentially rejective multiple test procedure", Scand. J. Statist. 6
    (1979).
    """
    values = np.asarray(p_values, np.float64)
    order = np.argsort(values)
    steps = values[order] * np.arange(len(values), 0, -1)
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1)
    found: list[float] = adjusted.tolist()
    return found


def with_holm(rows: Sequence[Row]) -> list[Row]:
    """Rows of comparisons with `p_holm`: their `p` adjusted by `holm` for all that have one."""
    tested = [row["p"] for row in rows if row["p"] is not None]
    adjusted = iter(holm(tested))
    return [{**row, "p_holm": None if row["p"] is None else next(adjusted)} for row in rows]


def rank_correlation(values: np.ndarray) -> float:
    """Spearman's of two columns (L, 2), for `pooled`; NaN if one has equal values only."""
    ranks = stats.rankdata(values, axis=0)
    apart = ranks - ranks.mean(0)
    scale = float(np.linalg.norm(apart, axis=0).prod())
    return float(apart[:, 0] @ apart[:, 1]) / scale if scale else float("nan")


def spearman_test(first: np.ndarray, second: np.ndarray) -> tuple[float, float] | None:
    """Spearman's correlation, and the two-sided p of none.

    Returns:
        None for fewer than `FEWEST_IN_GROUP` pairs, or if one has equal values only.
    """
    if len(first) < FEWEST_IN_GROUP or np.ptp(first) == 0 or np.ptp(second) == 0:
        return None
    found = stats.spearmanr(first, second)
    return float(found.statistic), float(found.pvalue)


@dataclass(frozen=True)
class Pooled:
    """A figure of the lesions of all patients.

    Attributes:
        n: number of lesions, or of pairs.
        patients: whose they are.
        value: None: there are fewer than `FEWEST_IN_GROUP`, or it is not defined.
        low: 95 % confidence interval, resampling patients with all their lesions; None: there are
            fewer than `FEWEST_SUBJECTS`, or the figure is not defined for some resample.
        high: its upper end.
    """

    n: int
    patients: int
    value: float | None = None
    low: float | None = None
    high: float | None = None


def pooled(
    statistic: Callable[[np.ndarray], float],
    values: Sequence[object] | np.ndarray,
    patients: Sequence[str],
) -> Pooled:
    """A figure of lesions, with its interval by patients.

    Args:
        statistic: as for `jaxsal.evaluation.intervals.statistic_over_patients`.
        values: (L, ...) of each lesion.
        patients: whose each lesion is (L,).
    """
    sizes = len(values), len(set(patients))
    if sizes[0] < FEWEST_IN_GROUP:
        return Pooled(*sizes)
    array = np.asarray(values, np.float64)
    if sizes[1] < FEWEST_SUBJECTS:
        value = float(statistic(array))
        return Pooled(*sizes, None if np.isnan(value) else value)
    found = statistic_over_patients(statistic, array, patients)
    low, high = found.interval or (None, None)
    return Pooled(*sizes, None if np.isnan(found.value) else found.value, low, high)


def median(values: np.ndarray) -> float:
    """Of values without NaN; numpy's own takes ten times as long, which resampling feels."""
    ordered, count = np.sort(values), len(values)
    return float(ordered[(count - 1) // 2] + ordered[count // 2]) / 2


def median_of_enough(values: Sequence[float] | np.ndarray) -> float | None:
    """The median; None for fewer than `FEWEST_IN_GROUP` values."""
    return None if len(values) < FEWEST_IN_GROUP else float(np.median(values))


def median_over_patients(rows: Sequence[Mapping[str, Any]], figure: str) -> dict[str, Any]:
    """The median of a column of lesions' rows, as the fields of `Pooled`."""
    values = [row[figure] for row in rows]
    patients = [row["subject"] for row in rows]
    return asdict(pooled(median, values, patients))


def too_few(numbers: Sequence[int], thing: str = "lesion", figures: str = "medians") -> str:
    """Says that figures of the summary are left out, and why; "" if none is.

    Args:
        numbers: how many each of them would be of.
        thing: what is counted.
        figures: what they are.
    """
    few = sorted({number for number in numbers if number < FEWEST_IN_GROUP})
    if not few:
        return ""
    which = counted(few[-1], thing) if len(few) == 1 else f"{few[0]} to {few[-1]} {thing}s"
    rows = sum(number < FEWEST_IN_GROUP for number in numbers)
    where = "" if rows == len(numbers) else f"{rows} of {len(numbers)} rows of the summary have "
    return f"{where}{which}: {figures} need {FEWEST_IN_GROUP}, and are left out"


def few_at_most(most: int | None, scans: int) -> str:
    """Says beforehand that there will be no medians; "" if there may be.

    Args:
        most: lesions of a scan that are asked about; None: all.
        scans: how many there are.
    """
    if most is None or most * scans >= FEWEST_IN_GROUP:
        return ""
    return (
        f"{counted(most, 'lesion')} of each scan at most, {counted(scans, 'scan')}: medians need "
        f"{FEWEST_IN_GROUP}, and will be left out"
    )


def few_patients(patients: int) -> str:
    """Says that there are no intervals, and why; "" if there are enough patients, or none."""
    if not 0 < patients < FEWEST_SUBJECTS:
        return ""
    have = "is one patient" if patients == 1 else f"are {patients} patients"
    return (
        f"there {have}: intervals, which resample patients, need {FEWEST_SUBJECTS}, and there are "
        "none here; figures hold for these lesions only"
    )


def paired_p(first: np.ndarray, second: np.ndarray) -> float | None:
    """Two-sided p of Wilcoxon's signed-rank test of pairs; None for fewer than five that differ."""
    differences = np.asarray(first, np.float64) - np.asarray(second, np.float64)
    differences = differences[differences != 0]
    if len(differences) < FEWEST_IN_GROUP:
        return None
    return float(stats.wilcoxon(differences).pvalue)
