"""A network's lesions compared with the reference, scan by scan."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from jaxsal.errors import InputError
from jaxsal.inputs.entries import Entry
from jaxsal.inputs.images import LoadedScan, load_scan
from jaxsal.inputs.read_ahead import one_by_one
from jaxsal.metrics import LesionCounts, dice, normalised_dice
from jaxsal.model import Model
from jaxsal.scan.notes import notes_of
from jaxsal.scan.prediction import Prediction, completed, lesions_at, predict_voxels
from jaxsal.settings import PredictSettings


@dataclass(frozen=True)
class Scores:
    """How well a scan's lesions were found, at one threshold.

    Attributes:
        dice: of the voxels of predicted lesions, and all those of the reference.
        normalised_dice: likewise.
        lesions: numbers of lesions.
        predicted_mm3: volume of predicted lesions, in mm³.
        reference_mm3: volume of the reference, in mm³.
    """

    dice: float
    normalised_dice: float
    lesions: LesionCounts
    predicted_mm3: float
    reference_mm3: float

    def figures(self) -> dict[str, float]:
        """What is averaged over scans, by name: "dice", "ndsc" and the lesion-wise rates."""
        return {"dice": self.dice, "ndsc": self.normalised_dice, **self.lesions.rates()}


@dataclass(frozen=True)
class Evaluation:
    """What became of a scan.

    Attributes:
        entry: the scan.
        scores: by threshold, None for the domain argmax; none if it failed.
        reason: why it failed, else "".
        notes: what looks like a mistake, in sentences.
    """

    entry: Entry
    scores: Mapping[float | None, Scores] = field(default_factory=dict)
    reason: str = ""
    notes: tuple[str, ...] = ()


def with_reference(entries: Sequence[Entry]) -> list[Entry]:
    """The scans that have a reference.

    Raises:
        InputError: there is none.
    """
    found = [entry for entry in entries if entry.scan.reference is not None]
    if not found:
        raise InputError(
            "evaluating needs a mask of the true lesions, and no scan has one: give it in a column "
            "'reference', or select it in a BIDS folder"
        )
    return found


def evaluate(
    model: Model,
    entries: Sequence[Entry],
    settings: PredictSettings,
    thresholds: Sequence[float] | None = None,
) -> Iterator[Evaluation]:
    """Finds each scan's lesions and compares them with its reference.

    Lesion probability is computed once per scan, whatever the number of thresholds; the next scan
    is read meanwhile.

    Args:
        model: the network.
        entries: the scans, each with a reference.
        settings: how lesions are found.
        thresholds: at which lesions are found; None: as the settings, or the model, say.

    Yields:
        What became of each scan, in their order. A scan that fails raises no error.
    """
    asked = [completed(settings, model).threshold] if thresholds is None else thresholds

    def evaluated(entry: Entry, loaded: LoadedScan) -> Evaluation:
        return _evaluated(entry, model, loaded, settings, asked)

    def load(entry: Entry) -> LoadedScan:
        return load_scan(entry.scan, model.channels, model.preprocessing)

    for entry, found, reason in one_by_one(entries, load, evaluated):
        yield found or Evaluation(entry, reason=reason)


def _evaluated(
    entry: Entry,
    model: Model,
    loaded: LoadedScan,
    settings: PredictSettings,
    thresholds: Sequence[float | None],
) -> Evaluation:
    voxels = predict_voxels(model, loaded, settings)
    compared = replace(loaded, labels=None)  # the network's lesions are, not the user's
    scores: dict[float | None, Scores] = {}
    best: Prediction | None = None  # one is kept at a time: there may be many thresholds
    for threshold in thresholds:
        found = lesions_at(threshold, voxels, compared, settings.minimum_volume)
        scores[threshold] = score(found)
        if best is None or scores[threshold].dice > scores[best.threshold].dice:
            best = found
    return Evaluation(entry, scores, notes=notes_of(model, best) if best else ())


def score(prediction: Prediction) -> Scores:
    """Compares the lesions that were found with the scan's reference.

    Raises:
        InputError: the scan has no reference.
    """
    reference, grid = prediction.scan.reference, prediction.grid
    if reference is None:
        raise InputError("the scan has no reference mask to compare with")
    labels, counts = prediction.labels, LesionCounts.of(prediction.instances)
    found = (labels > 0) & (labels <= counts.tp + counts.fp)  # those that were missed come last
    return Scores(
        dice=dice(found, reference),
        normalised_dice=normalised_dice(found, reference),
        lesions=counts,
        predicted_mm3=float(np.count_nonzero(found) * grid.voxel_volume),
        reference_mm3=float(np.count_nonzero(reference) * grid.voxel_volume),
    )
