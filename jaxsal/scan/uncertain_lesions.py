"""Finds a scan's lesions, and how uncertain the network is of them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from jaxsal.lesions import components
from jaxsal.progress import OnStage
from jaxsal.scan.members import Member, count_members, members_of
from jaxsal.scan.prediction import Prediction, as_run, find_lesions, make_field, voxels_of
from jaxsal.scan.uncertainty import Moments, Overlaps, Uncertainty, predictive_entropy

if TYPE_CHECKING:
    from jaxsal.field.plan import LogitField
    from jaxsal.inputs.images import LoadedScan
    from jaxsal.model import Model
    from jaxsal.settings import PredictSettings, UncertaintySettings


def find_uncertain_lesions(
    model: Model,
    loaded: LoadedScan,
    finding: PredictSettings,
    settings: UncertaintySettings | None,
    on_stage: OnStage = lambda stage: None,
) -> Prediction:
    """A scan's lesions and, with settings, how uncertain the network is of them.

    Raises:
        InputError: the settings do not fit the model.
    """
    prediction = find_lesions(model, loaded, finding)
    if settings is None:
        return prediction
    found = uncertainty_of(model, prediction, finding, settings, on_stage)
    return replace(prediction, uncertainty=found)


def uncertainty_of(
    model: Model,
    prediction: Prediction,
    finding: PredictSettings,
    settings: UncertaintySettings,
    on_stage: OnStage = lambda stage: None,
) -> Uncertainty:
    """How uncertain a network is of a scan whose lesions were found.

    Raises:
        InputError: the network has no such members.
    """
    grid, count = prediction.grid, count_members(model, finding, settings)
    moments, overlaps = Moments(), Overlaps(prediction.labels, prediction.instances)
    for number, member in enumerate(members_of(model, prediction.scan, finding, settings), 1):
        on_stage(f"member {number} of {count}")
        voxels = voxels_of(field_of(member, finding), model, member.scan, finding)
        moments.add(voxels.probability)
        segmented = voxels.segmented(prediction.threshold)
        overlaps.add(components(segmented, grid.voxel_volume, finding.minimum_volume))
    entropy = predictive_entropy(moments.mean).astype(np.float32)
    found = Uncertainty(entropy, moments.variance.astype(np.float32), overlaps.rows(entropy))
    return found.with_candidates(prediction, finding, settings)


def field_of(member: Member, finding: PredictSettings) -> LogitField:
    """What predicts of a member's scan, on the network's grid."""
    if member.variant is None:
        return make_field(as_run(member.model, finding), finding)
    return member.variant(make_field(member.model, finding))
