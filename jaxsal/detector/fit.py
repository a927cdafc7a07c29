"""Fits a detector on a cohort's results."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np

from jaxsal import __version__
from jaxsal.cohort.columns import MethodOutline
from jaxsal.cohort.results import CohortResults
from jaxsal.detector.detector import Detector, identity_of_maps, matrix
from jaxsal.detector.features import AROUND_MM, all_features, feature_columns
from jaxsal.detector.ibsi import BINS
from jaxsal.detector.logistic import fitted, require_library, threshold_that_loses
from jaxsal.detector.settings import FitSettings
from jaxsal.errors import InputError
from jaxsal.progress import OnPart

FEWEST = 5
"""Lesions of each kind, TP and FP, that a regression needs."""


def fit_detector(
    root: Path, settings: FitSettings, on_scan: OnPart = lambda done, scans: None
) -> Detector:
    """A detector of the found lesions in a cohort's results, true (TP) against false (FP).

    Args:
        root: the folder of a run over scans with references.
        settings: how.
        on_scan: called as scans are read.

    Raises:
        InputError: scikit-learn is not installed; the folder holds no results, or none of the
            method; its maps were not kept; or there are too few lesions of a kind.
    """
    require_library()
    results = CohortResults(root)
    method = chosen(results, settings.method)
    rows = [
        row
        for _, measured in all_features(results, method, on_scan)
        for row in measured
        if row["kind"] in ("TP", "FP")
    ]
    true = np.array([row["kind"] == "TP" for row in rows], bool)
    _require_enough(root, int(true.sum()), int((~true).sum()))
    features = tuple(feature_columns(method.maps))
    values = matrix(rows, features)
    logistic = fitted(values, true)
    return Detector(
        jaxsal=__version__,
        method=method.name,
        maps=method.maps,
        identity=identity_of_maps(results, method),
        bins=BINS,
        around_mm=AROUND_MM,
        features=features,
        **asdict(logistic),
        threshold=threshold_that_loses(logistic.probability(values), true, settings.lost),
        lost=settings.lost,
        true_lesions=int(true.sum()),
        false_lesions=int((~true).sum()),
        patients=len({row["subject"] for row in rows}),
    )


def chosen(results: CohortResults, name: str | None) -> MethodOutline:
    """The method of this name, or the only one.

    Raises:
        InputError: there is none of this name, or there are several and no name is given.
    """
    there = ", ".join(results.methods)
    if name is None and len(results.methods) > 1:
        raise InputError(f"{results.root} has maps of {there}: name one (--method)")
    method = results.methods.get(name or there)
    if method is None:
        raise InputError(
            f"{results.root} has no maps of {name} (--method); it has those of {there}"
        )
    return method


def _require_enough(root: Path, true: int, false: int) -> None:
    if min(true, false) < FEWEST:
        raise InputError(
            f"a detector needs {FEWEST} true lesions that were found (TP) and {FEWEST} false ones "
            f"(FP); {root} has {true} and {false}. Run the cohort over more scans, with a mask of "
            "the true lesions in a column 'reference' of the table"
        )
