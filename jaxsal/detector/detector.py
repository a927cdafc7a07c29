"""What a detector is, and its file: JSON that is checked as it is read."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxsal.detector.features import AROUND_MM, feature_columns
from jaxsal.detector.ibsi import BINS
from jaxsal.detector.logistic import Logistic
from jaxsal.errors import InputError, require
from jaxsal.store.files import read_object, write_json
from jaxsal.store.identity import require_same
from jaxsal.store.schema import settings_from

if TYPE_CHECKING:
    from jaxsal.cohort.columns import MethodOutline
    from jaxsal.cohort.results import CohortResults

_ADVICE = (
    "Apply it to results of the model and settings that it was fitted on, or fit another on "
    "results like these"
)


@dataclass(frozen=True)
class Detector:
    """A logistic regression of lesions' maps, with all that its maps depend on.

    Attributes:
        jaxsal: version that fitted it.
        method: whose maps it judges.
        maps: names of the method's maps, such as the channels.
        identity: model, finding of lesions and the method's settings, as `identity_of_maps`.
        bins: grey levels of the texture.
        around_mm: how far around a lesion its texture is taken, in mm.
        features: names, in the order of the coefficients.
        coefficients: of the standardised features.
        intercept: log odds where all features are at their mean.
        means: of the features, in the lesions that it was fitted on.
        scales: of the features, there.
        threshold: probability of being true below which a lesion counts as false.
        lost: share of true lesions that the threshold might lose, of those it was fitted on.
        true_lesions: number of TP that it was fitted on.
        false_lesions: number of FP.
        patients: whose they are.

    Raises:
        InputError: the parts do not fit together, or a number is out of its range.
    """

    jaxsal: str
    method: str
    maps: tuple[str, ...]
    identity: dict
    bins: int
    around_mm: float
    features: tuple[str, ...]
    coefficients: tuple[float, ...]
    intercept: float
    means: tuple[float, ...]
    scales: tuple[float, ...]
    threshold: float
    lost: float
    true_lesions: int
    false_lesions: int
    patients: int

    def __post_init__(self) -> None:
        for name in ("coefficients", "means", "scales"):
            values = getattr(self, name)
            require(
                len(values) == len(self.features),
                name,
                f"one number for each of the {len(self.features)} features",
                len(values),
            )
            require(all(map(math.isfinite, values)), name, "finite", values)
        require(min(self.scales, default=1.0) > 0, "scales", "more than zero", self.scales)
        require(math.isfinite(self.intercept), "intercept", "finite", self.intercept)
        for name in ("threshold", "lost"):
            require(0 <= getattr(self, name) <= 1, name, "from 0 to 1", getattr(self, name))
        for name in ("true_lesions", "false_lesions", "patients"):
            require(getattr(self, name) >= 1, name, "one or more", getattr(self, name))
        self._require_features()

    def _require_features(self) -> None:
        known = list(feature_columns(self.maps))
        current = (self.bins, self.around_mm) == (BINS, AROUND_MM)
        if not current or list(self.features) != known:
            raise InputError(
                "features must be those that this version of jaxsal measures "
                f"({len(known)} features, {BINS} bins, {AROUND_MM:g} mm around): fit the detector "
                "again with this version"
            )

    def probability(self, rows: Sequence[Mapping[str, Any]]) -> np.ndarray:
        """Of being a true lesion (L,), from rows of features."""
        logistic = Logistic(self.coefficients, self.intercept, self.means, self.scales)
        return logistic.probability(matrix(rows, self.features))

    def method_in(self, results: CohortResults, path: Path) -> MethodOutline:
        """The method whose maps it judges, in results like those that it was fitted on.

        Args:
            results: of a cohort.
            path: of the detector, for messages.

        Raises:
            InputError: there are no maps of the method, or they are of another model, other
                settings or other channels; the message says what differs.
        """
        method = results.methods.get(self.method)
        if method is None:
            there = ", ".join(results.methods)
            raise InputError(
                f"{path} was fitted on maps of {self.method}; {results.root} has maps of {there}. "
                f"{_ADVICE}"
            )
        now = identity_of_maps(results, method)
        require_same(path, self.identity, now, "a detector of {}", _ADVICE)
        require(method.maps == self.maps, f"{path}: maps", ", ".join(method.maps), self.maps)
        return method


def identity_of_maps(results: CohortResults, method: MethodOutline) -> dict[str, Any]:
    """What a method's maps in a cohort's results depend on, besides the scans.

    Whatever file the model came from, it is known by its parameters.
    """
    identity, settings = results.identity, results.identity["settings"]
    return {
        "model": {name: fact for name, fact in identity["model"].items() if name != "source"},
        "precision": identity["precision"],
        "prediction": identity["prediction"],
        "field": settings["field"],
        "saliency": settings["saliency"][method.name],
    }


def matrix(rows: Sequence[Mapping[str, Any]], features: Sequence[str]) -> np.ndarray:
    """The features of some lesions: (L, F) float64."""
    values = [[row[name] for name in features] for row in rows]
    return np.array(values, np.float64).reshape(len(rows), len(features))


def write_detector(path: Path, detector: Detector) -> None:
    """Writes a detector as JSON, whole or not at all.

    Raises:
        OutputError: it cannot be written.
    """
    write_json(path, asdict(detector))


def read_detector(path: Path) -> Detector:
    """A detector from its file.

    Raises:
        InputError: it cannot be read, or is no detector: a key is unknown or missing, or a value
            of another type or out of its range.
    """
    return settings_from(Detector, read_object(path), f"{path}:")
