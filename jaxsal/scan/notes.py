"""What looks like a mistake in a scan's files or its lesions, said in sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jaxsal.metrics import LesionCounts
from jaxsal.scan.doubtful_reference import doubtful_reference
from jaxsal.segmentation import nothing_segmented

if TYPE_CHECKING:
    from jaxsal.model import Model
    from jaxsal.scan.prediction import Prediction


def notes_of(model: Model, prediction: Prediction) -> tuple[str, ...]:
    """All that looks like a mistake in a scan's files or its lesions, in sentences."""
    return (*prediction.scan.notes, *_unsegmented(model, prediction), *_doubts(prediction))


def _unsegmented(model: Model, prediction: Prediction) -> tuple[str, ...]:
    """What to say of a scan of which no voxel is segmented; nothing of others."""
    if prediction.segmented.any() or prediction.scan.labels is not None:
        return ()
    highest = float(prediction.probability.max())
    outputs, kind = model.config.out_channels, model.probability
    return (nothing_segmented(highest, prediction.threshold, outputs, kind),)


def _doubts(prediction: Prediction) -> tuple[str, ...]:
    """What to say of a reference that seems to be of another scan; nothing of others."""
    scan = prediction.scan
    if scan.reference is None:
        return ()
    counts = LesionCounts.of(prediction.instances)
    return doubtful_reference(prediction.segmented, scan.reference, counts, scan.grid.spacing)
