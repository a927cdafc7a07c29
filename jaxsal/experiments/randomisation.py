"""Whether maps depend on what the network has learnt: its layers are randomised one by one.

Other networks may be set beside them, such as one that was trained on permuted labels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxsal.box import Box
from jaxsal.errors import InputError, require
from jaxsal.experiments.catalogue import Experiment
from jaxsal.experiments.choice import sampled
from jaxsal.experiments.derived import generator_of
from jaxsal.experiments.direct import (
    about_lesion,
    each_lesion,
    map_of,
    maximum,
    note_approximated,
    refuse_tolerance,
    saliency_identity,
)
from jaxsal.experiments.each_scan import each_scan
from jaxsal.experiments.findings import Findings
from jaxsal.experiments.map_similarity import correlation_of_ranks, structural_similarity
from jaxsal.experiments.other_models import load_other
from jaxsal.experiments.randomisation_figure import draw
from jaxsal.experiments.randomised_layers import cascade, stages_of
from jaxsal.experiments.regions import distance_mm
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
    from jaxsal.lesions import Instance
    from jaxsal.model import Model
    from jaxsal.saliency.maps import Crop
    from jaxsal.scan.prediction import Prediction
    from jaxsal.tables import Row

AROUND = 20.0
"""Distance in mm around a lesion's box in which maps are compared."""

NOISE, DISTANCE = "other noise", "distance"
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
            them.
    """
    refuse_tolerance(study)
    others = {str(place): _other(study, place) for place in settings.models}
    checksums = {place: model_facts(model)["parameters_sha256"] for place, model in others.items()}
    depends = {"stages": settings.stages, "models": checksums}
    identity = {"lesions": settings.lesions, **depends, **saliency_identity(study)}
    study.say(few_at_most(settings.lesions, len(study.entries)))
    compute = partial(_of_scan, study, settings, others, depends)
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
    figure = draw(rows, study.model.channels, FIGURES, (NOISE, DISTANCE, *others))
    return Findings(COLUMNS, rows, summary, figure, tuple(study.notes), SUMMARY_COLUMNS)


def measured(count: int, most: int | None) -> set[int]:
    """Which stages of 1 ... count are compared."""
    if most is None or most >= count:
        return set(range(1, count + 1))
    return set(np.linspace(1, count, most).round().astype(int).tolist())


def _other(study: Study, place: Path) -> Model:
    model = load_other(place, study.model)
    if model.preprocessing is None or study.model.preprocessing is None:
        same = model.preprocessing is study.model.preprocessing
    else:  # the study's takes scans of the network's own grid alone, see `Study`
        same = replace(model.preprocessing, permit="none") == study.model.preprocessing
    if not same:
        raise InputError(
            f"{place} prepares images otherwise than the first model, and would be given what it "
            "never saw: leave it out, or train it with the same preprocessing"
        )
    return model


def _of_scan(
    study: Study,
    settings: RandomisationSettings,
    others: Mapping[str, Model],
    depends: Mapping[str, Any],
    entry: Entry,
    prediction: Prediction,
) -> list[Row]:
    lesions = sampled(entry, prediction, settings.lesions, study.saliency.seed)
    compute = partial(_of_lesion, study, settings, others, entry, prediction)
    return each_lesion(study, "randomisation", depends, entry, prediction, lesions, compute)


def _of_lesion(
    study: Study,
    settings: RandomisationSettings,
    others: Mapping[str, Model],
    entry: Entry,
    prediction: Prediction,
    lesion: Instance,
) -> list[Row]:
    omega = prediction.labels == lesion.label
    margin = np.ceil(AROUND / np.array(prediction.grid.spacing)).astype(int)
    start, stop = (np.array(end) for end in (lesion.box.start, lesion.box.stop))
    around = Box(start - margin, stop + margin).clip(omega.shape)
    original = map_of(study, prediction, omega, maximum(study)).on(around)
    about = about_lesion(entry, lesion)
    rows: list[Row] = []
    for stage, layer, crop in _maps(study, settings, others, entry, prediction, lesion):
        other = crop.on(around)
        for c, channel in enumerate(study.model.channels):
            own = likeness(original[..., c], other[..., c])
            rows.append({**about, "stage": stage, "layer": layer, "channel": channel, **own})
    near = -distance_mm(omega, prediction.grid)[around.slices]
    for c, channel in enumerate(study.model.channels):
        alike = correlation_of_ranks(np.abs(original[..., c]), near)
        own = {"spearman_magnitude": None if np.isnan(alike) else alike}
        rows.append({**about, "stage": None, "layer": DISTANCE, "channel": channel, **own})
    return rows


def _maps(
    study: Study,
    settings: RandomisationSettings,
    others: Mapping[str, Model],
    entry: Entry,
    prediction: Prediction,
    lesion: Instance,
) -> Iterator[tuple[int | None, str, Crop]]:
    """A lesion's map with other noise, then those of the networks that are measured."""
    omega, saliency = prediction.labels == lesion.label, maximum(study)
    again = replace(saliency, seed=saliency.seed + 1)
    yield 0, NOISE, map_of(study, prediction, omega, again)
    wanted = measured(len(stages_of(study.model.config)), settings.stages)
    rng = generator_of(entry, saliency.seed, lesion.label)
    for number, (stage, model) in enumerate(cascade(study.model, rng), start=1):
        if number in wanted:
            crop = map_of(study, prediction, omega, saliency, model=model)
            yield number, stage.layer, crop
    for place, model in others.items():
        yield None, place, map_of(study, prediction, omega, saliency, model=model)


def likeness(original: np.ndarray, other: np.ndarray) -> Row:
    """How alike two maps (x, y, z) are; None where a map is constant."""
    found = {
        "spearman": correlation_of_ranks(original, other),
        "spearman_magnitude": correlation_of_ranks(np.abs(original), np.abs(other)),
        "ssim": structural_similarity(original, other),
    }
    return {name: None if np.isnan(value) else value for name, value in found.items()}


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
