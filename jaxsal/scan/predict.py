"""The lesions of one scan."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxsal.chance import doubtful_reference
from jaxsal.field import LogitField, sliding_window, whole_volume
from jaxsal.inputs.scan import LoadedScan, Scan, load_scan, warn_of
from jaxsal.lesions import Instance, given, label_lesions, lesion_probability
from jaxsal.metrics import LesionCounts
from jaxsal.model import Model
from jaxsal.scan.defaults import completed
from jaxsal.scan.provenance import RunRecord
from jaxsal.scan.results import INSTANCE_COLUMNS, instance_row
from jaxsal.scan.unfinished import Unfinished
from jaxsal.segmentation import most_probable, nothing_segmented
from jaxsal.settings import PredictSettings
from jaxsal.store.output_folder import OutputFolder
from jaxsal.tables import Row, write_table
from jaxsal.volumes import write_volume

OnStage = Callable[[str], None]  # is told what is being done


@dataclass(frozen=True, eq=False)
class Voxels:
    """What a network says of each voxel of a scan.

    Attributes:
        probability: (X, Y, Z) float32, of lesion; 0 outside of the scan's box.
        most_probable: (X, Y, Z) bool, where lesion is the most probable class; None unless the
            settings' domain is "argmax".
    """

    probability: np.ndarray
    most_probable: np.ndarray | None

    def segmented(self, threshold: float | None) -> np.ndarray:
        """Which are lesion at a threshold; at None, where lesion is the most probable class."""
        if threshold is not None:
            return self.probability >= threshold
        assert self.most_probable is not None  # there is no threshold for the domain argmax alone
        return self.most_probable


@dataclass(frozen=True, eq=False)
class Prediction:
    """A scan with its lesions.

    Attributes:
        scan: the scan.
        probability: (X, Y, Z) float32, of lesion; 0 outside of the scan's box.
        threshold: lesion probability at and above which a voxel is lesion; None: it is where
            lesion is the most probable class.
        segmented: (X, Y, Z) bool, the voxels that are lesion, also in components too small for one.
        labels: (X, Y, Z) int32, 0 for background.
        instances: the lesions.
    """

    scan: LoadedScan
    probability: np.ndarray
    threshold: float | None
    segmented: np.ndarray
    labels: np.ndarray
    instances: list[Instance]

    def facts(self, settings: PredictSettings) -> dict[str, Any]:
        """The settings, completed by the model's, and the box, ready for JSON."""
        box = self.scan.grid.box_in_file(self.scan.box)
        return asdict(settings) | {"box": [[part.start, part.stop] for part in box]}


def predict(
    model: Model,
    scan: Scan,
    out: Path,
    settings: PredictSettings,
    *,
    overwrite: bool = False,
    on_stage: OnStage = lambda stage: None,
) -> list[Row]:
    """Finds a scan's lesions and writes probability, label map, table and record into a folder.

    Args:
        model: the network.
        scan: the files.
        out: folder for the results.
        settings: how lesions are found.
        overwrite: replace the results of an earlier run in the folder, and what an interrupted run
            of `explain` kept there.
        on_stage: called with what is being done.

    Returns:
        The rows of the table, one per lesion.

    Raises:
        InputError: a file, the folder or a setting cannot be worked with.
    """
    settings = completed(settings, model)
    unfinished = Unfinished(out)
    with OutputFolder(out, overwrite=overwrite) as results:
        unfinished.require_none(overwrite=overwrite)
        run = RunRecord("predict", model, scan.roles(model.channels))
        on_stage("finding lesions")
        loaded = load_scan(scan, model)
        run.saw(loaded.backgrounds)
        prediction = find_lesions(model, loaded, settings)
        warn_of(notes_of(model, prediction))
        rows = [instance_row(instance) for instance in prediction.instances]
        write_prediction(results, prediction)
        write_table(results.path("instances.tsv"), list(INSTANCE_COLUMNS), rows)
        results.commit(run.finished({"prediction": prediction.facts(settings)}))
        unfinished.discard()
    return rows


def write_prediction(results: OutputFolder, prediction: Prediction) -> None:
    """Writes the lesion probability and the label map."""
    grid = prediction.scan.grid
    write_volume(results.path("prediction.nii.gz"), prediction.probability, grid)
    write_volume(results.path("instances.nii.gz"), prediction.labels, grid)


def find_lesions(model: Model, loaded: LoadedScan, settings: PredictSettings) -> Prediction:
    """Computes a scan's lesion probability and finds its lesions.

    Raises:
        InputError: the settings do not fit the model.
    """
    voxels = predict_voxels(model, loaded, settings)
    return lesions_at(completed(settings, model).threshold, voxels, loaded, settings.minimum_volume)


def lesions_at(
    threshold: float | None, voxels: Voxels, loaded: LoadedScan, minimum_volume: float
) -> Prediction:
    """Finds a scan's lesions at a threshold; None: where lesion is the most probable class."""
    segmented = voxels.segmented(threshold)
    if loaded.labels is not None:
        labels, instances = loaded.labels, given(loaded.labels, loaded.grid)
    else:
        labels, instances = label_lesions(segmented, loaded.grid, loaded.reference, minimum_volume)
    return Prediction(loaded, voxels.probability, threshold, segmented, labels, instances)


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


def predict_voxels(model: Model, loaded: LoadedScan, settings: PredictSettings) -> Voxels:
    """Computes a scan's lesion probability and, for the domain argmax, its most probable class.

    Raises:
        InputError: the settings do not fit the model.
    """
    field = make_field(as_run(model, settings), settings)
    logits = np.asarray(field(jnp.asarray(loaded.image[loaded.box])))
    target = model.lesion_output(settings.target)
    probability = np.zeros(loaded.grid.shape, np.float32)
    probability[loaded.box] = lesion_probability(logits, target, field.probability)
    if settings.domain == "threshold":
        return Voxels(probability, None)
    largest = np.zeros(loaded.grid.shape, bool)
    largest[loaded.box] = most_probable(logits, target, field.probability)
    return Voxels(probability, largest)


def as_run(model: Model, settings: PredictSettings) -> Model:
    """The model that the settings ask for, with mirroring or as it is."""
    return model.with_mirroring() if settings.mirror else model


def make_field(model: Model, settings: PredictSettings) -> LogitField:
    """The logit field that the settings ask for, of a model from `as_run`."""
    if settings.field == "whole":
        return whole_volume(model)
    return sliding_window(
        model, roi=settings.roi, overlap=settings.overlap, windows=settings.windows
    )
