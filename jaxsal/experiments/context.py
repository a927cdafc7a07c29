"""How much of its surroundings a network needs to find a lesion (Fig. 15)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from jaxsal.errors import require
from jaxsal.experiments.catalogue import Experiment
from jaxsal.experiments.choice import (
    FOUND,
    another_range,
    check_range,
    left_out,
    none_of_volume,
    of_volume,
    unfit,
    volume_option,
)
from jaxsal.experiments.context_curve import PLATEAU, Curve, context_figure, curve_of
from jaxsal.experiments.context_scores import ContextScores, context_scores
from jaxsal.experiments.each_lesion import KeptLesions
from jaxsal.experiments.each_scan import each_scan
from jaxsal.experiments.findings import Findings
from jaxsal.experiments.statistics import FEWEST_IN_GROUP
from jaxsal.inputs.entries import Entry
from jaxsal.lesions import Instance
from jaxsal.options import option
from jaxsal.scan.prediction import Prediction, as_run, make_field
from jaxsal.tables import Row
from jaxsal.wording import counted

if TYPE_CHECKING:
    from jaxsal.experiments.study import Study

VIEWS = ("centred", "field")
COLUMNS = {
    "scan": "what the scan is called",
    "label": "value of the lesion in the scan's label map",
    "kind": "TP against the reference; predicted; given by the user",
    "voxels": "size in voxels",
    "volume_mm3": "volume in mm³",
    "step": "how often the lesion was dilated by one voxel (18 neighbours); all else is zero",
    "mm": "the step in mm: times the voxel size, the cube root of its volume",
    "score": "mean lesion probability over the lesion's voxels",
    "highest": "the highest of them",
    "detected": "1 if that reaches the threshold, else 0",
    "scan_score": "mean lesion probability over the lesion's voxels in the scan as it is",
}

SUMMARY_COLUMNS = {
    "what": "place on the curve of scores, or what is read off it",
    "mm": "shown around lesions there, in mm",
    "mean": "of the scores, over lesions",
    "std": "their standard deviation",
    "detected": "number of lesions that are detected",
    "lesions": "number of lesions",
}


@dataclass(frozen=True)
class ContextSettings:
    """Settings of `context`.

    Attributes:
        volume: smallest and largest lesion, in mm³, both included.
        steps: largest number of dilations by one voxel.
        view: what the network is run on. "centred": one window around each lesion; "field": all
            windows that reach it, blended as where lesions are found, which takes as many times as
            long.
        batch: windows that are computed at once; more take more memory.
    """

    volume: tuple[float, float] = volume_option()
    steps: int = option(35, "N")
    view: str = option("centred", choices=VIEWS)
    batch: int = option(4, "N")

    def __post_init__(self) -> None:
        check_range("volume", self.volume)
        require(1 <= self.steps <= 254, "steps", "from 1 to 254", self.steps)
        require(self.view in VIEWS, "view", " or ".join(VIEWS), self.view)
        require(self.batch >= 1, "batch", "1 or more", self.batch)


def context(study: Study, settings: ContextSettings) -> Findings:
    """Scores of lesions in images of nothing else, to which their surroundings are given back.

    Source: Spagnolo et al. 2026, "Experiment on contextual information", Fig. 15.
    """
    rows, volumes = context_rows(study, settings)
    if not rows:
        study.note_none(none_of_volume(volumes, settings.volume))
        return Findings(COLUMNS, [], [], None, tuple(study.notes))
    curve = curve_of(rows)
    if curve.lesions < FEWEST_IN_GROUP:
        study.note(
            f"mean and standard deviation are those of {counted(curve.lesions, 'lesion')}, which "
            + "; ".join(filter(None, ["shows little", another_range(volumes, settings.volume)]))
        )
    figure = context_figure(rows, curve, study.threshold)
    return Findings(COLUMNS, rows, summary(curve), figure, tuple(study.notes), SUMMARY_COLUMNS)


def context_rows(
    study: Study, settings: ContextSettings, name: str = "context"
) -> tuple[list[Row], list[float]]:
    """A row per lesion and step, and the volumes of all lesions that were found, in mm³.

    Args:
        study: the scans and the network.
        settings: of the experiment.
        name: of the folder that keeps the rows.
    """
    own = {**asdict(settings), "batch": None, "volume": None}
    compute = partial(_of_scan, study, settings, partial(KeptLesions, study, name, own))
    rows = each_scan(study, name, {**asdict(settings), "batch": None}, compute)
    volumes = [row["volume_mm3"] for row in rows if row["step"] is None and "note" not in row]
    return [row for row in rows if row["step"] is not None], volumes


def _of_scan(
    study: Study,
    settings: ContextSettings,
    kept_of: Callable[[Entry], KeptLesions],
    entry: Entry,
    prediction: Prediction,
) -> list[Row]:
    """A row per lesion and step, and one without a step for every lesion that was found."""
    found = [each for each in prediction.instances if each.kind in FOUND]
    rows: list[Row] = [_lesion_row(entry, each) | {"step": None} for each in found]
    chosen = []
    for each in of_volume(found, settings.volume):
        reason = _unfit(study, settings, each, prediction)
        if reason:
            note = {"note": left_out(entry, each, reason)}
            rows.append(_lesion_row(entry, each) | {"step": None} | note)
        else:
            chosen.append(each)
    kept = kept_of(entry)
    done = {each.label: kept.rows(each) for each in chosen}
    todo = [each for each in chosen if done[each.label] is None]
    if todo:
        size = prediction.grid.voxel_volume ** (1 / 3)
        scores = _scores(study, settings, entry, prediction, todo)
        for instance, scored in zip(todo, scores, strict=True):
            own = _step_rows(entry, instance, scored, prediction, study.threshold, size)
            done[instance.label] = kept.keep(instance, own)
    return rows + [row for own in done.values() for row in own or ()]


def _scores(
    study: Study,
    settings: ContextSettings,
    entry: Entry,
    prediction: Prediction,
    lesions: Sequence[Instance],
) -> Iterator[ContextScores]:
    """Scores of lesions, one after the other."""
    loaded = prediction.scan
    return context_scores(
        make_field(as_run(study.model, study.prediction), study.prediction),
        loaded.box.cut(loaded.image),
        loaded.box.cut(prediction.labels),
        [each.label for each in lesions],
        steps=range(settings.steps + 1),
        window=None if settings.view == "field" else study.prediction.roi,
        batch=settings.batch,
        target=study.prediction.target,
        on_pass=lambda done, total: study.monitor.detail(f"{entry.id}: {done}/{total} windows"),
    )


def _unfit(
    study: Study, settings: ContextSettings, instance: Instance, prediction: Prediction
) -> str:
    """Why a lesion cannot be asked about; empty if it can."""
    if settings.view == "centred" and np.any(np.array(instance.box.shape) > study.prediction.roi):
        return "it is larger than a window; --view field takes it"
    return unfit(instance.box, prediction)


def _lesion_row(entry: Entry, instance: Instance) -> Row:
    return {
        "scan": entry.id,
        "label": instance.label,
        "kind": instance.kind,
        "voxels": instance.voxels,
        "volume_mm3": instance.volume_mm3,
    }


def _step_rows(
    entry: Entry,
    instance: Instance,
    scores: ContextScores,
    prediction: Prediction,
    threshold: float,
    size: float,
) -> list[Row]:
    inside = instance.box.cut(prediction.labels) == instance.label
    own = float(instance.box.cut(prediction.probability)[inside].mean())
    return [
        {
            **_lesion_row(entry, instance),
            "step": step,
            "mm": step * size,
            "score": float(score),
            "highest": float(highest),
            "detected": int(highest >= threshold),
            "scan_score": own,
        }
        for step, (score, highest) in enumerate(zip(scores.mean, scores.highest, strict=True))
    ]


def summary(curve: Curve) -> list[Row]:
    """The curve in brief: a row each for some steps, and for what is read off it."""
    last = len(curve.steps) - 1
    shown = [d for d in (0, 1, 3, 7, 12, 15, 24) if d < last]
    rows = [
        _point(curve, f"score after {counted(int(curve.steps[d]), 'step')}", d)
        for d in [*shown, last]
    ]
    whole = _point(curve, "score in the scans as they are", None)
    rows.append({**whole, "mean": curve.scan_score})
    for what, place in (
        (f"plateau (within {PLATEAU:.0%} of the range of the last)", curve.plateau),
        ("all detected from here on", curve.all_detected),
    ):
        rows.append(_point(curve, what if place is not None else f"{what}: none", place))
    return rows


def _point(curve: Curve, what: str, place: int | None) -> Row:
    """A row of one place of the curve; of none, all but the number of lesions is empty."""
    row: Row = {"what": what, "mm": None, "mean": None, "std": None, "detected": None}
    if place is not None:
        std = float(curve.std[place])
        row |= {"mm": float(curve.mm[place]), "mean": float(curve.mean[place])}
        row |= {"std": None if np.isnan(std) else std, "detected": int(curve.detected[place])}
    return {**row, "lesions": curve.lesions}


EXPERIMENT = Experiment(context, ContextSettings, uses_saliency=False, uses_maps=False)
