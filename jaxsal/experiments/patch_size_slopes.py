"""Plateaus of networks and patients, and their slope against the size of the patches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import groupby
from operator import itemgetter
from typing import Any

import numpy as np
from scipy import stats

from jaxsal.experiments.context_curve import Curve, curve_of
from jaxsal.experiments.patch_size_models import Trained
from jaxsal.experiments.statistics import FEWEST_IN_GROUP, pooled
from jaxsal.tables import Row

COLUMNS = {
    "model": "model directory",
    "patch": "edge of a cube of the size of its training's patches, in voxels",
    "patch_mm": "the same in mm, in this patient's scans",
    "seed": "of the training; empty if it is not recorded",
    "subject": "the patient",
    "lesions": "number of lesions",
    "plateau_mm": "shown around lesions from which on the mean score stays near its last value, as "
    "in `context`; empty: not within --steps",
    "first_score": "mean score of the lesions without surroundings",
    "last_score": "mean score with all --steps",
    "scan_score": "mean score in the scans as they are",
}
SUMMARY_COLUMNS = {
    "patch": COLUMNS["patch"],
    "patch_mm": "the same in mm, median of the patients' scans",
    "seed": COLUMNS["seed"],
    "model": COLUMNS["model"],
    "lesions": "number of lesions",
    "patients": "whose they are",
    "plateau_mm": "of the mean score over all lesions, as in `context`; empty: none",
    "median_mm": "median of the patients' plateaus, of those that have one",
    "without": "patients that have none within --steps",
    "scan_score": "mean score of all lesions in the scans as they are",
    "slope of": "all networks, or those of one seed",
    "models": "number of networks",
    "n": "number of plateaus, one per network and patient",
    "value": "mm by which the plateau moves per mm of the patches' edge, within patients, by least "
    "squares",
    "low": "95 % confidence interval, resampling patients, each with the plateaus of all networks: "
    "of these networks in other patients, not of other trainings",
    "high": "its upper end",
    "slope over": "networks, of one plateau each, that of all its lesions",
    "slope": "mm by which it moves per mm of the patches' edge, by ordinary least squares; empty: "
    f"fewer than {FEWEST_IN_GROUP} networks, or one size of patches",
    "slope_low": "95 % confidence interval, by Student's t: networks differ by their trainings",
    "slope_high": "its upper end",
    "p": "of a slope of 0",
}


def plateau_rows(model: Trained, rows: Sequence[Row], subjects: dict[str, str]) -> Iterator[Row]:
    """A row per patient.

    Args:
        model: the network.
        rows: of its lesions and steps, as `context` makes them.
        subjects: the patient of each scan, by the scan's name.
    """
    by_patient: dict[str, list[Row]] = {}
    for row in rows:
        by_patient.setdefault(subjects[row["scan"]], []).append(row)
    for subject, own in by_patient.items():
        curve = curve_of(own)
        voxel = float(np.median([row["mm"] / row["step"] for row in own if row["step"]]))
        yield {
            "model": model.place,
            "patch": model.edge,
            "patch_mm": model.edge * voxel,
            "seed": model.seed,
            "subject": subject,
            "lesions": curve.lesions,
            "plateau_mm": _plateau(curve),
            "first_score": float(curve.mean[0]),
            "last_score": float(curve.mean[-1]),
            "scan_score": curve.scan_score,
        }


def _plateau(curve: Curve) -> float | None:
    return None if curve.plateau is None else float(curve.mm[curve.plateau])


def model_row(model: Trained, rows: Sequence[Row], patients: Sequence[Row]) -> Row:
    """A network in brief.

    Args:
        model: the network.
        rows: of its lesions and steps; there may be none.
        patients: what `plateau_rows` makes of them.
    """
    curve = curve_of(rows) if rows else None
    plateaus = [row["plateau_mm"] for row in patients if row["plateau_mm"] is not None]
    sizes = [row["patch_mm"] for row in patients]
    return {
        "patch": model.edge,
        "patch_mm": float(np.median(sizes)) if sizes else None,
        "seed": model.seed,
        "model": model.place,
        "lesions": curve.lesions if curve else 0,
        "patients": len(patients),
        "plateau_mm": _plateau(curve) if curve else None,
        "median_mm": float(np.median(plateaus)) if plateaus else None,
        "without": len(patients) - len(plateaus),
        "scan_score": curve.scan_score if curve else None,
    }


def slope(values: np.ndarray) -> float:
    """By least squares, of columns (L, 2) that are 0 in the mean of each patient.

    NaN if no patient has plateaus of different patch sizes.
    """
    patches, plateaus = values.T
    square = float(patches @ patches)
    return float(patches @ plateaus) / square if square > 0 else np.nan


def within_patients(rows: Sequence[Row]) -> tuple[np.ndarray, list[str]]:
    """Patch sizes and plateaus (L, 2) less the patient's mean, in mm, and whose each is (L,).

    So a patient whose plateaus are large throughout, or lack for some networks, does not tilt the
    slope. Patients with plateaus of a single patch size say nothing of it and are left out.
    """
    known = [row for row in rows if row["plateau_mm"] is not None]
    values, patients = [np.empty((0, 2))], []
    for subject, group in groupby(sorted(known, key=itemgetter("subject")), itemgetter("subject")):
        own = np.array([(row["patch_mm"], row["plateau_mm"]) for row in group], np.float64)
        if np.ptp(own[:, 0]) > 0:
            values.append(own - own.mean(axis=0))
            patients += [subject] * len(own)
    return np.concatenate(values), patients


def slope_rows(rows: Sequence[Row]) -> list[Row]:
    """The slope over all networks, then over those of each seed, to see how trainings differ."""
    seeds = sorted({row["seed"] for row in rows if row["seed"] is not None})
    parts: dict[str, Sequence[Row]] = {"all networks": rows}
    if len(seeds) > 1:
        parts |= {f"seed {seed}": [r for r in rows if r["seed"] == seed] for seed in seeds}
    return [_slope_row(name, part) for name, part in parts.items()]


def _slope_row(name: str, rows: Sequence[Row]) -> dict[str, Any]:
    found = asdict(pooled(slope, *within_patients(rows)))
    models = len({row["model"] for row in rows})
    kept = {key: found[key] for key in ("n", "patients", "value", "low", "high")}
    return {"slope of": name, "models": models, **kept}


def slope_over_networks(models: Sequence[Row]) -> Row:
    """The slope of networks' own plateaus, with an interval that trainings make wide.

    Args:
        models: rows of `model_row`; networks without a plateau are in no slope.
    """
    known = [row for row in models if row["plateau_mm"] is not None]
    patches, plateaus = ([row[name] for row in known] for name in ("patch_mm", "plateau_mm"))
    row: Row = {"slope over": "networks", "models": len(known)}
    if len(known) < FEWEST_IN_GROUP or np.ptp(patches) == 0:
        return row | dict.fromkeys(("slope", "slope_low", "slope_high", "p"))
    found = stats.linregress(patches, plateaus)
    reach = float(stats.t.ppf(0.975, len(known) - 2) * found.stderr)
    ends = {"slope_low": found.slope - reach, "slope_high": found.slope + reach}
    return {**row, "slope": float(found.slope), **ends, "p": float(found.pvalue)}
