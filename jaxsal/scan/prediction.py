"""What a network says of a scan's voxels, and the lesions that follow from it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np

from jaxsal.field.plan import LogitField
from jaxsal.field.sliding import sliding_window
from jaxsal.field.whole import whole_volume
from jaxsal.grid import Grid
from jaxsal.lesions import Instance, instances_of, label_lesions, lesion_probability
from jaxsal.model import Model
from jaxsal.network_grid import labels_on_network, logits_on_scan
from jaxsal.preprocessing import Preprocessing
from jaxsal.settings import PredictSettings, Windows
from jaxsal.types import Triple
from jaxsal.volumes import write_volume
from jaxsal.voxels import most_probable, require_classes

if TYPE_CHECKING:
    from jaxsal.inputs.images import LoadedScan
    from jaxsal.scan.uncertainty import Uncertainty
    from jaxsal.store.output_folder import OutputFolder


@dataclass(frozen=True, eq=False)
class Voxels:
    """What a network says of each voxel of a scan.

    Attributes:
        probability: (X, Y, Z) float32, of lesion on the scan's grid; 0 outside of the part that
            the network is given.
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
    """A scan with its lesions. They are on the scan's grid: `LoadedScan.grid.scan`.

    Attributes:
        scan: the scan.
        probability: (X, Y, Z) float32, of lesion; 0 outside of the part that the network is given.
        threshold: lesion probability at and above which a voxel is lesion; None: it is where
            lesion is the most probable class.
        segmented: (X, Y, Z) bool, the voxels that are lesion, also in components too small for one.
        labels: (X, Y, Z) int32, 0 for background.
        instances: the lesions.
        uncertainty: how uncertain the network is; None if that was not asked.
    """

    scan: LoadedScan
    probability: np.ndarray
    threshold: float | None
    segmented: np.ndarray
    labels: np.ndarray
    instances: list[Instance]
    uncertainty: Uncertainty | None = None

    @property
    def grid(self) -> Grid:
        """The scan's, on which the lesions are."""
        return self.scan.grid.scan

    @cached_property
    def domains(self) -> np.ndarray:
        """(X, Y, Z) int32, the labels on the network's grid, where maps are computed."""
        return labels_on_network(self.labels, self.scan.grid)

    def facts(self, settings: PredictSettings) -> dict[str, Any]:
        """The settings, completed by the model's, box and resampling, ready for JSON."""
        box = self.grid.box_in_file(self.scan.scan_box)
        found = asdict(settings) | {"box": np.transpose([box.start, box.stop]).tolist()}
        return found | self.resampled

    @cached_property
    def regions(self) -> dict[int, str | None] | None:
        """The region of each lesion, None for those in none; None without a parcellation."""
        parcellation = self.scan.parcellation
        return None if parcellation is None else parcellation.regions_of(self.labels)

    @property
    def extras(self) -> dict[str, bool]:
        """What its table has besides, as `jaxsal.scan.lesion_table.instance_columns` takes it."""
        parcelled = self.scan.parcellation is not None
        return {"uncertain": self.uncertainty is not None, "parcelled": parcelled}

    @property
    def resampled(self) -> dict[str, Any]:
        """How the scan was resampled, ready for JSON; empty if it was not."""
        network = self.scan.grid
        if network.resampled is None:
            return {}
        sizes = {"from_mm": self.grid.file.spacing, "to_mm": network.file.spacing}
        return {"resampled": {**sizes, "shape": network.file.shape}}


def completed(settings: PredictSettings, model: Model) -> PredictSettings:
    """The settings as they take effect, with the model's threshold and target where none is given.

    The domain argmax has no threshold.

    Raises:
        InputError: there is no such output, it must be named, or the outputs are no classes, of
            which the domain argmax takes the most probable one.
    """
    threshold = settings.threshold
    if settings.domain == "argmax":
        require_classes(model.config.out_channels, model.probability)
    elif threshold is None:
        threshold = model.threshold
    return replace(settings, threshold=threshold, target=model.lesion_output(settings.target))


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
        labels, instances = loaded.labels, instances_of(loaded.labels, loaded.grid.scan)
    else:
        found = label_lesions(segmented, loaded.grid.scan, loaded.reference, minimum_volume)
        labels, instances = found
    return Prediction(loaded, voxels.probability, threshold, segmented, labels, instances)


def predict_voxels(model: Model, loaded: LoadedScan, settings: PredictSettings) -> Voxels:
    """Computes a scan's lesion probability and, for the domain argmax, its most probable class.

    Logits are resampled to the scan's grid first, as nnU-Net does.

    Raises:
        InputError: the settings do not fit the model.
    """
    return voxels_of(make_field(as_run(model, settings), settings), model, loaded, settings)


def voxels_of(
    field: LogitField, model: Model, loaded: LoadedScan, settings: PredictSettings
) -> Voxels:
    """As `predict_voxels`, by a field of one's own on the network's grid."""
    logits = np.asarray(field(jnp.asarray(loaded.box.cut(loaded.image))))
    known = model.preprocessing
    if known is not None and known.spacing is not None:
        logits = logits_on_scan(logits, loaded.grid, known.spacing, known.rules.logits)
    target = model.lesion_output(settings.target)
    box, shape = loaded.scan_box, loaded.grid.scan.shape
    probability = box.place(lesion_probability(logits, target, field.probability), shape)
    if settings.domain == "threshold":
        return Voxels(probability, None)
    return Voxels(probability, box.place(most_probable(logits, target, field.probability), shape))


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


def write_prediction(results: OutputFolder, prediction: Prediction) -> None:
    """Writes lesion probability, label map and maps of uncertainty, on the scan's grid."""
    write_volume(results.path("prediction.nii.gz"), prediction.probability, prediction.grid)
    write_volume(results.path("instances.nii.gz"), prediction.labels, prediction.grid)
    volumes = prediction.uncertainty.volumes if prediction.uncertainty else {}
    for name, volume in volumes.items():
        write_volume(results.path(f"{name}.nii.gz"), volume, prediction.grid)


def for_model(
    settings: PredictSettings,
    model: Model,
    *,
    roi: Triple | None,
    overlap: float | None,
    target: int | str | None,
    windows: Windows | None = None,
) -> PredictSettings:
    """The settings with windows, overlap and target as given or, where None, as the model's are.

    Args:
        settings: for all the rest, and where the model has none.
        model: the network with what is known from its source.
        roi: window size in voxels.
        overlap: share of a window that the next one covers again.
        target: output of the lesion class, by number or, where the model names them, by name.
        windows: whose rules place and weight windows.

    Raises:
        InputError: there is no such output, or it must be named.
    """
    known = model.preprocessing or Preprocessing()
    overlaps = (overlap, model.overlap, known.overlap, settings.overlap)
    return replace(
        settings,
        roi=roi or model.roi or known.roi or settings.roi,
        overlap=next(each for each in overlaps if each is not None),
        windows=windows or (known.windows if model.preprocessing else settings.windows),
        target=model.lesion_output(settings.target if target is None else target),
    )
