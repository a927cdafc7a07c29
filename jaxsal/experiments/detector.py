"""Whether maps tell false lesions from true ones, in patients that nothing was fitted on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from jaxsal.detector.detector import matrix
from jaxsal.detector.features import LESION_COLUMNS, SIZE, feature_columns, scan_features
from jaxsal.detector.fit import FEWEST
from jaxsal.detector.logistic import held_out, require_library
from jaxsal.errors import InputError, require
from jaxsal.experiments.catalogue import Experiment
from jaxsal.experiments.choice import require_references
from jaxsal.experiments.detector_figure import draw
from jaxsal.experiments.detector_summary import PAIRS, SUMMARY_COLUMNS, VOLUME, summary_of
from jaxsal.experiments.findings import Findings
from jaxsal.experiments.statistics import few_patients
from jaxsal.experiments.true_negatives import SphereSettings, true_negatives
from jaxsal.options import option

if TYPE_CHECKING:
    from jaxsal.cohort.results import CohortResults
    from jaxsal.experiments.study import Study
    from jaxsal.tables import Row

_METHOD = "smoothgrad-max"
_HELD_OUT = {
    "fold": "in which the lesion was held out, from 0 on; empty: none was fitted for it",
    "p_true": "probability of being true, by a regression on maps and volume of other patients",
    "p_true_volume": "the same by the volume alone",
    "p_true_region": "as p_true, by a regression on the lesions of its region alone; empty: "
    "without a parcellation, or with too few lesions there",
    "kept": "1: p_true reaches the threshold of the fold's training lesions; 0: not",
    "kept_volume": "the same of p_true_volume",
}
_ABOUT = {
    "kind": "TP, FP or FN against the reference; TN: a sphere of what is no lesion",
    "region": "of a parcellation: the region that most of the lesion lies in",
}


@dataclass(frozen=True)
class DetectorSettings(SphereSettings):
    """Settings of `detector`.

    Attributes:
        folds: parts of the patients that are held out in turn; no more than patients.
        lost: share of the true lesions (TP) of the training folds that the threshold may lose.
    """

    folds: int = option(5, "N")
    lost: float = option(0.01, "SHARE")

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.folds >= 2, "folds", "two or more", self.folds)
        require(0 <= self.lost < 1, "lost", "from 0 to less than 1", self.lost)


def detector(study: Study, settings: DetectorSettings) -> Findings:
    """ROC of peaks alone, and of regressions on features of the maps, held out by patient.

    With parcellations, one regression for all lesions stands beside one for each region.

    Raises:
        InputError: no scan has a reference, or scikit-learn is not installed.
    """
    require_references(study)
    require_library()
    results = study.lesions()
    rows = [row for row in _measured(study, results) if row["kind"] in ("TP", "FP", "FN")]
    spheres = true_negatives(study, settings, results)
    if spheres is not None:
        rows += [{**row, "kind": "TN"} for row in _measured(study, spheres)]
    maps = results.methods[_METHOD].maps
    columns = {**LESION_COLUMNS, **_ABOUT, **_HELD_OUT, **feature_columns(maps)}
    _note(study, rows)
    rows = judged(rows, maps, settings)
    unjudged = sum(row["fold"] is None for row in rows if row["kind"] in ("TP", "FP"))
    if 0 < unjudged < sum(row["kind"] in ("TP", "FP") for row in rows):
        study.note(
            f"{unjudged} lesions are in folds whose other patients have TP only, or FP only: no "
            "regression is fitted there, and they are left out of its figures"
        )
    return Findings(
        columns,
        rows,
        summary_of(rows, maps),
        draw(rows, maps) if rows else None,
        tuple(study.notes),
        SUMMARY_COLUMNS,
    )


def _measured(study: Study, results: CohortResults) -> Iterator[Row]:
    """The features of all lesions; scans whose maps cannot be read are left out."""
    for scan in results.scans():
        regions = {row["label"]: row.get("region") for row in scan.rows}
        try:
            for row in list(scan_features(scan, results.methods[_METHOD])):
                yield {**row, "region": regions[row["label"]]}
        except InputError as error:
            study.leave_out(results.root.name, scan.id, str(error))


def judged(rows: Sequence[Row], maps: tuple[str, ...], settings: DetectorSettings) -> list[Row]:
    """The rows with what regressions on other patients say of TP and FP, where there are enough."""
    rows = [{**row, **dict.fromkeys(_HELD_OUT)} for row in rows]
    own = [row for row in rows if row["kind"] in ("TP", "FP")]
    features = tuple(feature_columns(maps))
    for row, fold, probability, kept in _by_others(own, features, settings):
        row.update(fold=fold, p_true=probability, kept=kept)
    for row, _, probability, kept in _by_others(own, (SIZE,), settings):
        row.update(p_true_volume=probability, kept_volume=kept)
    for region in sorted({row["region"] for row in own if row["region"]}):
        there = [row for row in own if row["region"] == region]
        for row, _, probability, _ in _by_others(there, features, settings):
            row["p_true_region"] = probability
    return rows


def _by_others(
    rows: Sequence[Row], features: tuple[str, ...], settings: DetectorSettings
) -> Iterator[tuple[Row, int, float, int]]:
    """Rows of TP and FP, with fold, probability and whether it is kept, where one was fitted."""
    true = np.array([row["kind"] == "TP" for row in rows], bool)
    patients = [row["subject"] for row in rows]
    if min(true.sum(), (~true).sum()) < FEWEST or len(set(patients)) < 2:
        return
    found = held_out(matrix(rows, features), true, patients, settings.folds, settings.lost)
    for index in np.flatnonzero(found.fold >= 0).tolist():
        yield (
            rows[index],
            int(found.fold[index]),
            float(found.probability[index]),
            int(found.kept[index]),
        )


def _note(study: Study, rows: Sequence[Row]) -> None:
    sizes = {kind: sum(row["kind"] == kind for row in rows) for kind in ("TP", "FP", "FN", "TN")}
    for first, second in (("TP", "FP"), ("FN", "TN")):
        if min(sizes[first], sizes[second]) < FEWEST:
            study.note(
                f"{sizes[first]} {first} and {sizes[second]} {second}: a comparison needs {FEWEST} "
                "of each, and is left out"
            )
    study.note(_size_of_spheres(rows))
    patients = len({row["subject"] for row in rows if row["kind"] in ("TP", "FP")})
    if patients == 1:
        study.note(
            "one patient has all TP and FP: a regression, which is judged by patients that it was "
            "not fitted on, needs two, and is left out"
        )
    study.note(few_patients(len({row["subject"] for row in rows})))
    study.note(
        "intervals of regressions resample patients, and do not fit the regressions again; a "
        "regression on what says nothing has an AUC a little below 0.5 in patients held out, as "
        "folds with many TP are judged by folds with fewer: maps tell more than the size only if "
        "p_true exceeds volume_mm3, which needs no fit, as well as p_true_volume"
    )
    study.note(
        "a TP that is pruned counts as a missed lesion, also where another piece of it stays; "
        "whether patients were in the network's own training is not known here"
    )


def _size_of_spheres(rows: Sequence[Row]) -> str:
    """Says why the volume is not set beside what tells FN from TN; "" without either."""
    missed, spheres = ([r[VOLUME] for r in rows if r["kind"] == kind] for kind in PAIRS[1])
    if not missed or not spheres:
        return ""
    return (
        f"TN are spheres of about {np.median(spheres):.0f} mm³, FN have {np.median(missed):.0f} in "
        "the median: the volume tells FN from TN by construction, and is left out there; part of "
        "what peaks tell of them may be the size"
    )


EXPERIMENT = Experiment(detector, DetectorSettings)
