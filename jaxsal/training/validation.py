"""Validation on whole scans, by a sliding window: the figures, and the threshold that suits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from jaxsal.errors import InputError
from jaxsal.evaluation.scans import Evaluation, evaluate
from jaxsal.evaluation.thresholds import best_threshold, thresholds_between, tuning_curve
from jaxsal.inputs.entries import Entry
from jaxsal.model import Model
from jaxsal.settings import PredictSettings
from jaxsal.training.config import TrainingConfig


@dataclass(frozen=True)
class Figures:
    """What a validation found, at the threshold with the best mean normalised Dice.

    Attributes:
        dice: mean over scans.
        ndsc: normalised Dice, mean over scans.
        tpr: lesion-wise true-positive rate of all lesions together.
        fdr: lesion-wise false-discovery rate, likewise.
        threshold: lesion probability.
        scans: number of scans that could be evaluated.
    """

    dice: float
    ndsc: float
    tpr: float
    fdr: float
    threshold: float
    scans: int

    def row(self) -> dict[str, float]:
        """The columns of the table of the training."""
        names = ("dice", "ndsc", "tpr", "fdr")
        row = {f"validation_{name}": getattr(self, name) for name in names}
        return row | {"threshold": self.threshold}


def validate(
    entries: Sequence[Entry],
    config: TrainingConfig,
    model: Model,
    on_scan: Callable[[Evaluation, int], None] = lambda evaluation, done: None,
) -> Figures:
    """Finds the lesions of whole scans as `jaxsal evaluate` does, in windows of a patch's size.

    Nothing is compiled again from one validation to the next: parameters are arguments.

    Args:
        entries: the scans, each with a reference.
        config: of the training.
        model: the network as it is now.
        on_scan: called after each scan, with how many are done; what it raises ends validation.

    Raises:
        InputError: none of the scans can be evaluated.
    """
    preprocessing = model.preprocessing
    settings = PredictSettings(
        roi=config.patches.size,
        overlap=config.run.overlap,
        minimum_volume=config.run.minimum_volume,
        windows=preprocessing.windows if preprocessing else "monai",
    )
    thresholds = thresholds_between(*config.run.thresholds)
    done: list[Evaluation] = []
    for evaluation in evaluate(model, entries, settings, thresholds):
        done.append(evaluation)
        on_scan(evaluation, len(done))
    good = [each for each in done if each.scores]
    if not good:
        raise InputError(
            f"none of the {len(done)} scans to validate on can be evaluated; "
            f"{done[0].entry.id}: {done[0].reason}"
        )
    curve = tuning_curve(good, thresholds)
    threshold = best_threshold(curve)
    at = curve[threshold]
    return Figures(at["dice"], at["ndsc"], at["tpr"], at["fdr"], threshold, len(good))
