"""How much maps depend on the noise that they average over, against the number of noisy images."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from jaxsal.errors import require
from jaxsal.experiments.catalogue import Experiment
from jaxsal.experiments.choice import sampled
from jaxsal.experiments.direct import (
    about_lesion,
    each_lesion,
    exact,
    map_of,
    maximum,
    note_approximated,
    refuse_tolerance,
    saliency_identity,
)
from jaxsal.experiments.each_scan import each_scan
from jaxsal.experiments.findings import Findings
from jaxsal.experiments.map_similarity import correlation, relative_distance
from jaxsal.experiments.stability_figure import draw
from jaxsal.experiments.statistics import (
    few_at_most,
    few_patients,
    median_of_enough,
    median_over_patients,
    paired_p,
    too_few,
    with_holm,
)
from jaxsal.options import option
from jaxsal.scan.uncertainty import Moments

if TYPE_CHECKING:
    from jaxsal.experiments.study import Study
    from jaxsal.inputs.entries import Entry
    from jaxsal.lesions import Instance
    from jaxsal.saliency.methods.smoothgrad import SmoothGradSettings
    from jaxsal.scan.prediction import Prediction
    from jaxsal.tables import Row

ERROR = 0.05
"""Standard error of the peak, as a share of it, that is small enough."""

AGGREGATES = ("max", "mean")
COLUMNS = {
    "scan": "what the scan is called in the cohort",
    "subject": "the patient",
    "label": "value of the lesion in the label map",
    "voxels": "size in voxels",
    "volume_mm3": "volume in mm³",
    "aggregate": "max: Eq. 3, the signed maximum over the lesion; mean: Eq. 2",
    "channel": "with respect to which the map is",
    "images": "number N of noisy images that a map averages over",
    "pairs": "pairs of maps that were compared; no two of all their maps share a noisy image",
    "relative_l2": "norm of the difference of two maps over the root mean square of their norms, "
    "mean over the pairs; 0: the same; 1.41: they have nothing in common",
    "correlation": "Pearson's of the values of two maps, mean over the pairs",
    "peak_spread": "standard deviation of the maps' peak magnitudes over their mean",
    "peak_error": "standard error of the map's value where its magnitude is largest, over that",
    "images_needed": f"number of noisy images from which peak_error is below {ERROR:g}",
}
_ENDS = {"low": "95 % confidence interval, resampling patients", "high": "its upper end"}
FIGURES = ("relative_l2", "correlation", "peak_spread", "peak_error")
SUMMARY_COLUMNS = {
    "aggregate": COLUMNS["aggregate"],
    "channel": COLUMNS["channel"],
    "images": COLUMNS["images"],
    "figure": "of the table, whose median over lesions this is",
    "n": "number of lesions",
    "patients": "whose they are",
    "value": "the median; empty for fewer than five",
    "low": _ENDS["low"],
    "high": _ENDS["high"],
    "first": "aggregate that is compared by images_needed, lesion by lesion",
    "second": "the one that it is compared with",
    "difference": "median of the difference in images_needed; empty for fewer than five",
    "p": "of Wilcoxon's signed-rank test, two-sided, as if lesions were independent",
    "p_holm": "adjusted after Holm for all comparisons",
}


@dataclass(frozen=True)
class StabilitySettings:
    """Settings of `stability`.

    Attributes:
        lesions: lesions per scan at most, drawn at random from those that are found; each takes
            2 × --samples noisy images, rounded down to a power of two, by the maximum and as many
            by the mean.
    """

    lesions: int = option(5, "N")

    def __post_init__(self) -> None:
        require(self.lesions >= 1, "lesions", "1 or more", self.lesions)


def stability(study: Study, settings: StabilitySettings) -> Findings:
    """Differences between maps of other noise, and the standard error of the peak, against N.

    Each noisy image has a seed of its own. Twice as many as `--samples`, rounded down to a power of
    two, make maps of 1, 2, 4, ... images each, no two of which share one.

    Raises:
        InputError: there are fewer than two samples, or a tolerance.
    """
    refuse_tolerance(study)
    require(study.saliency.samples >= 2, "samples", "2 or more", study.saliency.samples)
    study.say(few_at_most(settings.lesions, len(study.entries)))
    identity = {**asdict(settings), **saliency_identity(study)}
    kept = each_scan(study, "stability", identity, partial(_of_scan, study, settings.lesions))
    rows = [row for row in kept if "note" not in row]
    if not rows:
        study.note_none("no lesion can be asked about in any scan: there is no map to repeat")
        return Findings(COLUMNS, [], [], None, tuple(study.notes))
    most = max(row["images"] for row in rows)
    note_approximated(study, rows)
    study.note(few_patients(len({row["subject"] for row in rows})))
    study.note(
        f"standard errors are estimated from {2 * most} noisy images per lesion and aggregate, "
        f"two maps of up to {most} that share none; numbers needed beyond that "
        "take the error to fall with the root of the number"
    )
    summary = summary_of(rows)
    study.note(too_few([row["n"] for row in summary]))
    figure = draw(rows, study.model.channels)
    return Findings(COLUMNS, rows, summary, figure, tuple(study.notes), SUMMARY_COLUMNS)


def _of_scan(study: Study, most: int, entry: Entry, prediction: Prediction) -> list[Row]:
    lesions = sampled(entry, prediction, most, study.saliency.seed)
    compute = partial(_of_lesion, study, entry, prediction)
    return each_lesion(study, "stability", {}, entry, prediction, lesions, compute)


def _of_lesion(study: Study, entry: Entry, prediction: Prediction, lesion: Instance) -> list[Row]:
    omega = prediction.labels == lesion.label
    about = about_lesion(entry, lesion)
    rows: list[Row] = []
    for aggregate in AGGREGATES:
        one = maximum(study) if aggregate == "max" else exact(maximum(study), "mean")
        maps = (
            map_of(study, prediction, omega, each).values
            for each in single_images(one, images_of(study.saliency.samples))
        )
        for own in compared(maps, study.model.channels):
            rows.append({**about, "aggregate": aggregate, **own})
    return rows


def images_of(samples: int) -> int:
    """How many noisy images there are in all: twice the samples, or fewer, a power of two."""
    return 2 ** int(math.log2(2 * samples))


def single_images(saliency: SmoothGradSettings, count: int) -> Iterator[SmoothGradSettings]:
    """Settings of so many maps of one noisy image each, of seeds that follow each other."""
    for number in range(count):
        yield replace(saliency, samples=1, seed=saliency.seed + number)


def siblings(maps: Iterable[np.ndarray]) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Pairs of means of N maps each that share none, for N of 1, 2, 4, ...

    Only one mean of each N is kept meanwhile, so that memory grows with the logarithm of N.

    Args:
        maps: of one image each, a power of two of them.

    Yields:
        N and two means of the next N maps.
    """
    waiting: list[tuple[int, np.ndarray]] = []
    for each in maps:
        size, mean = 1, each
        while waiting and waiting[-1][0] == size:
            _, earlier = waiting.pop()
            yield size, earlier, mean
            size, mean = 2 * size, (earlier + mean) / 2
        waiting.append((size, mean))


def compared(maps: Iterable[np.ndarray], channels: Sequence[str]) -> list[Row]:
    """Rows by number of images and channel, of the maps (x, y, z, C) of single images."""
    moments = Moments()

    def taken(values: np.ndarray) -> np.ndarray:
        moments.add(values)
        return values

    pairs: dict[int, list[np.ndarray]] = {}
    for size, one, other in siblings(map(taken, maps)):
        figures = [_differences(one[..., c], other[..., c]) for c in range(len(channels))]
        pairs.setdefault(size, []).append(np.array(figures))
    errors = _errors(moments)
    rows = []
    for (size, found), (c, channel) in product(pairs.items(), enumerate(channels)):
        distances, correlations, first, second = np.array(found)[:, c].T
        peaks = np.concatenate([first, second])
        spread = np.sqrt(np.mean((first - second) ** 2) / 2)  # of both, whatever drifts
        rows.append(
            {
                "channel": channel,
                "images": size,
                "pairs": len(found),
                "relative_l2": _number(distances.mean()),
                "correlation": _number(correlations.mean()),
                "peak_spread": _number(spread / peaks.mean()) if peaks.any() else None,
                "peak_error": _number(errors[c] / math.sqrt(size)),
                "images_needed": images_needed(errors[c]),
            }
        )
    return rows


def images_needed(error: float) -> int | None:
    """From which number on the standard error of the peak is small.

    Args:
        error: of one image, as a share of the peak; NaN: there is no peak.
    """
    return None if math.isnan(error) else max(1, math.floor((error / ERROR) ** 2) + 1)


def _differences(one: np.ndarray, other: np.ndarray) -> tuple[float, float, float, float]:
    peaks = float(np.abs(one).max()), float(np.abs(other).max())
    return relative_distance(one, other), correlation(one, other), *peaks


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _errors(moments: Moments) -> list[float]:
    """Standard deviation where the mean is largest, over it, by channel; NaN of zero maps."""
    unbiased = moments.count / (moments.count - 1)
    found = []
    for mean, variance in zip(
        np.moveaxis(moments.mean, -1, 0), np.moveaxis(moments.variance, -1, 0), strict=True
    ):
        place = np.unravel_index(np.abs(mean).argmax(), mean.shape)
        peak, deviation = abs(float(mean[place])), math.sqrt(unbiased * float(variance[place]))
        found.append(deviation / peak if peak else math.nan)
    return found


def summary_of(rows: Sequence[Row]) -> list[Row]:
    """Medians over lesions by number of images; numbers needed; aggregates compared."""
    groups = list(dict.fromkeys((row["aggregate"], row["channel"]) for row in rows))
    numbers = sorted({row["images"] for row in rows})
    found = []
    for (aggregate, channel), figure in product(groups, (*FIGURES, "images_needed")):
        for images in numbers if figure in FIGURES else numbers[-1:]:
            own = [row for row in _of(rows, aggregate, channel, images) if row[figure] is not None]
            about = {"aggregate": aggregate, "channel": channel, "figure": figure}
            about["images"] = images if figure in FIGURES else None
            found.append({**about, **median_over_patients(own, figure)})
    compared_ = [_comparison(rows, channel) for channel in dict.fromkeys(c for _, c in groups)]
    return [*found, *with_holm(compared_)]


def _of(rows: Sequence[Row], aggregate: str, channel: str, images: int) -> list[Row]:
    wanted = (aggregate, channel, images)
    return [row for row in rows if (row["aggregate"], row["channel"], row["images"]) == wanted]


def _comparison(rows: Sequence[Row], channel: str) -> Row:
    most = max(row["images"] for row in rows)
    first, second = (
        {(row["scan"], row["label"]): row["images_needed"] for row in _of(rows, a, channel, most)}
        for a in AGGREGATES
    )
    both = [(first[k], second[k]) for k in first if k in second]
    pairs = np.array([pair for pair in both if None not in pair], np.float64).reshape(-1, 2)
    return {
        "first": AGGREGATES[0],
        "second": AGGREGATES[1],
        "channel": channel,
        "n": len(pairs),
        "difference": median_of_enough(pairs[:, 0] - pairs[:, 1]),
        "p": paired_p(*pairs.T),
        "p_holm": None,
    }


EXPERIMENT = Experiment(stability, StabilitySettings, uses_maps=False, takes_tolerance=False)
