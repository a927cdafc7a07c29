"""The lesions of one scan."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxsal.errors import InputError
from jaxsal.field import LogitField, sliding_window, whole_volume
from jaxsal.grid import Grid
from jaxsal.lesions import Instance, given, lesion_probability, output_channel, segment
from jaxsal.model import Model
from jaxsal.scan.output_folder import OutputFolder
from jaxsal.scan.results import Row, RunRecord, instance_row, write_prediction, write_table
from jaxsal.settings import PredictSettings
from jaxsal.types import Box
from jaxsal.volumes import read_labels, read_mask, read_scan

OnStage = Callable[[str], None]  # is told what is being done


@dataclass(frozen=True)
class Scan:
    """The files of one scan.

    Attributes:
        images: one per channel of the model, in the model's order.
        reference: a mask of the true lesions, if there is one.
        instances: a label map whose lesions are to be explained instead of predicted ones.
    """

    images: tuple[Path, ...]
    reference: Path | None = None
    instances: Path | None = None

    def __post_init__(self) -> None:
        if self.reference and self.instances:
            raise InputError("give a reference mask or a label map of instances, not both")

    def roles(self, channels: Sequence[str]) -> dict[str, Path]:
        """The files by what each is taken for: a channel, "reference" or "instances"."""
        others = {"reference": self.reference, "instances": self.instances}
        given = {role: path for role, path in others.items() if path is not None}
        return dict(zip(channels, self.images, strict=False)) | given


@dataclass(frozen=True)
class Prediction:
    """A scan with its lesions.

    Attributes:
        image: (X, Y, Z, C) float32, normalised.
        grid: of the image.
        box: the part of the image that the network is given.
        probability: (X, Y, Z) float32, of lesion; 0 outside of the box.
        threshold: lesion probability at and above which a voxel is lesion.
        labels: (X, Y, Z) int32, 0 for background.
        instances: the lesions.
    """

    image: np.ndarray
    grid: Grid
    box: Box
    probability: np.ndarray
    threshold: float
    labels: np.ndarray
    instances: list[Instance]

    def facts(self, settings: PredictSettings) -> dict[str, Any]:
        """The settings as they took effect, and the box, ready for JSON."""
        used = replace(settings, threshold=self.threshold)
        return asdict(used) | {"box": [[part.start, part.stop] for part in self.box]}


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

    Returns:
        The rows of the table, one per lesion.

    Raises:
        InputError: a file, the folder or a setting cannot be worked with.
    """
    with OutputFolder(out, overwrite=overwrite) as results:
        run = RunRecord("predict", model, scan.roles(model.channels))
        on_stage("finding lesions")
        prediction = find_lesions(model, scan, settings)
        rows = [instance_row(instance) for instance in prediction.instances]
        write_prediction(results, prediction.grid, prediction.probability, prediction.labels)
        write_table(results.path("instances.tsv"), rows)
        results.commit(run.finished({"prediction": prediction.facts(settings)}))
    return rows


def find_lesions(model: Model, scan: Scan, settings: PredictSettings) -> Prediction:
    """Reads a scan, computes the lesion probability and finds the lesions.

    Raises:
        InputError: a file cannot be used, or the settings do not fit the model.
    """
    image, grid, box = read_scan(scan.images, model.channels, model.preprocessing)
    _warn_of_swaps(scan, model.channels)
    reference = read_mask(scan.reference, grid) if scan.reference else None
    labels = read_labels(scan.instances, grid) if scan.instances else None
    field = make_field(model, settings)
    logits = np.asarray(field(jnp.asarray(image[box])))
    target = output_channel(settings.target, logits.shape[-1])
    probability = np.zeros(grid.shape, np.float32)
    probability[box] = lesion_probability(logits, target, field.probability)
    threshold = model.threshold if settings.threshold is None else settings.threshold
    if labels is not None:
        instances = given(labels, grid)
    else:
        labels, instances = segment(
            probability, threshold, grid, reference, settings.minimum_volume
        )
    return Prediction(image, grid, box, probability, threshold, labels, instances)


def _warn_of_swaps(scan: Scan, channels: Sequence[str]) -> None:
    for _, message in named_after_others(scan, channels):
        warnings.warn(message, stacklevel=2)


def named_after_others(scan: Scan, channels: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Channels whose image is named after another one, and what to say of it."""
    for channel, path in zip(channels, scan.images, strict=True):
        name = path.name.lower()
        others = [other for other in channels if other != channel and other.lower() in name]
        if others and channel.lower() not in name:
            yield (
                channel,
                f"{path.name} is taken for the channel {channel}, but is named after {others[0]}; "
                f"give the images in the model's order: {', '.join(channels)}",
            )


def as_run(model: Model, settings: PredictSettings) -> Model:
    """The model that the settings ask for, with mirroring or as it is."""
    return model.with_mirroring() if settings.mirror and not model.mirror_axes else model


def make_field(model: Model, settings: PredictSettings) -> LogitField:
    """The logit field that the settings ask for."""
    model = as_run(model, settings)
    if settings.field == "whole":
        return whole_volume(model)
    return sliding_window(
        model, roi=settings.roi, overlap=settings.overlap, windows=settings.windows
    )
