"""Whether maps depend on what the network has learnt: its layers are randomised one by one.

Other networks may be set beside them, such as one that was trained on permuted labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from jaxsal.errors import InputError, require
from jaxsal.experiments.catalogue import Experiment
from jaxsal.experiments.choice import left_out, sampled, unfit
from jaxsal.experiments.direct import note_approximated, refuse_tolerance, saliency_identity
from jaxsal.experiments.each_scan import each_scan
from jaxsal.experiments.findings import Findings
from jaxsal.experiments.other_models import load_alike
from jaxsal.experiments.randomisation_figure import draw
from jaxsal.experiments.randomisation_lesion import AROUND, DISTANCE, NOISE, Other, lesion_rows
from jaxsal.experiments.randomised_layers import stages_of
from jaxsal.experiments.statistics import (
    few_at_most,
    few_patients,
    median_over_patients,
    too_few,
)
from jaxsal.options import option
from jaxsal.scan.provenance import model_facts

if TYPE_CHECKING:
    from jaxsal.experiments.study import Study
    from jaxsal.inputs.entries import Entry
    from jaxsal.scan.prediction import Prediction
    from jaxsal.tables import Row

COLUMNS = {
    "scan": "what the scan is called in the cohort",
    "subject": "the patient",
    "label": "value of the lesion in the label map",
    "voxels": "size in voxels",
    "volume_mm3": "volume in mm³",
    "stage": "how many layers are randomised, from the logits on; 0: none",
    "layer": f"the last of them; {NOISE}: the network as it is, with noise of another seed; "
    f"{DISTANCE}: no map, but the distance from the lesion, the nearest voxels first; or the model "
    "directory of another network",
    "channel": "with respect to which the map is",
    "spearman": f"rank correlation with the original map, within {AROUND:g} mm of the lesion's box",
    "spearman_magnitude": "the same of magnitudes",
    "ssim": "structural similarity with the original map, each divided by its largest magnitude",
}
FIGURES = ("spearman", "spearman_magnitude", "ssim")
SUMMARY_COLUMNS = {
    "stage": COLUMNS["stage"],
    "layer": COLUMNS["layer"],
    "channel": COLUMNS["channel"],
    "figure": "of the table, whose median over lesions this is",
    "n": "number of lesions",
    "patients": "whose they are",
    "value": "the median; empty for fewer than five",
    "low": "95 % confidence interval, resampling patients",
    "high": "its upper end",
}


@dataclass(frozen=True)
class RandomisationSettings:
    """Settings of `randomisation`.

    Attributes:
        lesions: lesions per scan at most, drawn at random from those that are found.
        stages: stages at which maps are compared at most, evenly spread from the first to the last.
            None: after every layer.
        models: model directories of other networks, whose maps of the same lesions are compared
            with the original ones, such as one that was trained on permuted labels.
    """

    lesions: int = option(5, "N")
    stages: int | None = option(None, "N")
    models: tuple[Path, ...] = option((), "DIR", repeated=True)

    def __post_init__(self) -> None:
        require(self.lesions >= 1, "lesions", "1 or more", self.lesions)
        enough = self.stages is None or self.stages >= 2
        require(enough, "stages", "2 or more", self.stages)


def randomisation(study: Study, settings: RandomisationSettings) -> Findings:
    """How alike maps stay while layers are randomised, from the logits towards the input.

    Raises:
        InputError: there is a tolerance, or another network takes other images or other values of
            them, or is the same.
    """
    refuse_tolerance(study)
    others = _others(study, settings.models)
    checksums = {each.place: each.checksum for each in others}
    asked = {"lesions": settings.lesions, "stages": settings.stages, "models": checksums}
    identity = {**asked, **saliency_identity(study)}
    study.say(few_at_most(settings.lesions, len(study.entries)))
    compute = partial(_of_scan, study, settings, others)
    kept = each_scan(study, "randomisation", identity, compute)
    rows = [row for row in kept if "note" not in row]
    if not rows:
        study.note_none("no lesion can be asked about in any scan: there is no map to compare")
        return Findings(COLUMNS, [], [], None, tuple(study.notes))
    note_approximated(study, rows)
    study.note(few_patients(len({row["subject"] for row in rows})))
    study.note("each lesion has random layers of its own; every array is permuted within itself")
    summary = summary_of(rows)
    study.note(too_few([row["n"] for row in summary]))
    figure = draw(rows, study.model.channels, FIGURES, (NOISE, DISTANCE, *checksums))
    return Findings(COLUMNS, rows, summary, figure, tuple(study.notes), SUMMARY_COLUMNS)


def measured(count: int, most: int | None) -> set[int]:
    """Which stages of 1 ... count are compared."""
    if most is None or most >= count:
        return set(range(1, count + 1))
    return set(np.linspace(1, count, most).round().astype(int).tolist())


def _others(study: Study, places: Sequence[Path]) -> list[Other]:
    known = {study.facts["model"]["parameters_sha256"]: "the first model"}
    found = []
    for place in places:
        model = load_alike(place, study.model)
        checksum = model_facts(model)["parameters_sha256"]
        if checksum in known:
            raise InputError(
                f"{place} is the same network as {known[checksum]}, with the same parameters: its "
                "maps say nothing more; leave it out"
            )
        known[checksum] = str(place)
        found.append(Other(str(place), model, checksum))
    return found


def _of_scan(
    study: Study,
    settings: RandomisationSettings,
    others: Sequence[Other],
    entry: Entry,
    prediction: Prediction,
) -> list[Row]:
    lesions = sampled(entry, prediction, settings.lesions, study.saliency.seed)
    stages = measured(len(stages_of(study.model.config)), settings.stages)
    rows: list[Row] = []
    for number, lesion in enumerate(lesions, start=1):
        if reason := unfit(lesion.box, prediction):
            rows.append({"note": left_out(entry, lesion, reason)})
        else:
            rows += lesion_rows(study, entry, prediction, lesion, stages, others)
        study.monitor.detail(f"{entry.id}: {number}/{len(lesions)} lesions")
    return rows


def summary_of(rows: Sequence[Row]) -> list[Row]:
    """Medians over lesions by stage, channel and figure."""
    stages = dict.fromkeys((row["stage"], row["layer"]) for row in rows)
    channels = dict.fromkeys(row["channel"] for row in rows)
    found = []
    for figure, channel, (stage, layer) in product(FIGURES, channels, stages):
        own = [
            row
            for row in rows
            if (row["stage"], row["layer"], row["channel"]) == (stage, layer, channel)
            and row.get(figure) is not None
        ]
        if layer == DISTANCE and figure != "spearman_magnitude":
            continue
        about = {"stage": stage, "layer": layer, "channel": channel, "figure": figure}
        found.append({**about, **median_over_patients(own, figure)})
    return found


EXPERIMENT = Experiment(
    randomisation, RandomisationSettings, uses_maps=False, takes_tolerance=False
)
