"""What is to be explained of a scan."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from jaxsal.errors import InputError
from jaxsal.lesions import Instance, select
from jaxsal.network_grid import labels_on_network
from jaxsal.scan.lesion_table import class_row, lesion_row
from jaxsal.settings import ExplainSettings
from jaxsal.tables import Row
from jaxsal.wording import counted

if TYPE_CHECKING:
    from jaxsal.scan.prediction import Prediction


@dataclass(frozen=True)
class Explanation:
    """What one map is about.

    Attributes:
        stem: of the names of its files.
        title: of its picture.
        row: of the table, without the map's statistics.
        voxels: how many its domain has on the network's grid.
    """

    stem: str
    title: str
    row: Row
    voxels: int


@dataclass(frozen=True)
class Explanations:
    """What is to be explained, and on which domains.

    Attributes:
        labels: (X, Y, Z) int32, the lesion domains by label, on the network's grid.
        maps: what the map of each explained label is about.
        notes: what cannot be explained, in sentences.
    """

    labels: np.ndarray
    maps: dict[int, Explanation]
    notes: tuple[str, ...] = ()

    def part(self, labels: Iterable[int]) -> Explanations:
        """Only these labels of it."""
        return Explanations(self.labels, {label: self.maps[label] for label in labels})

    @property
    def domains(self) -> np.ndarray:
        """(X, Y, Z) int32, the labels that are explained."""
        return np.where(np.isin(self.labels, list(self.maps)), self.labels, 0)


def to_explain(prediction: Prediction, settings: ExplainSettings) -> Explanations:
    """The lesions to explain; at class level all given ones, or all segmented voxels, as one."""
    inside = np.zeros(prediction.grid.shape, bool)
    inside[prediction.scan.scan_box.slices] = True
    if settings.level == "class":
        if prediction.scan.labels is not None:
            domain = prediction.labels > 0
        else:
            domain = prediction.segmented
        domain = domain & inside
        on_network = labels_on_network(domain, prediction.scan.grid).astype(np.int32)
        explained = {1: _class_level(prediction, domain, on_network)} if domain.any() else {}
        return Explanations(on_network, explained)
    chosen = [
        lesion
        for lesion in select(prediction.instances, settings.labels)
        if (settings.kinds is None or lesion.kind in settings.kinds)
        and (settings.max_voxels is None or lesion.voxels <= settings.max_voxels)
    ]
    notes: tuple[str, ...] = ()
    unseen = {i.label for i in chosen} - set(np.unique(prediction.labels[inside]).tolist())
    if unseen:
        reason = (
            f"nothing to explain of lesion {', '.join(map(str, sorted(unseen)))}: all images are 0 "
            "there and around, which the network is never given"
        )
        if settings.labels is not None:
            raise InputError(f"{reason}; leave out of --labels")
        notes = (f"{reason}; left out",)
    if prediction.instances and not chosen:
        count = counted(len(prediction.instances), "lesion")
        notes = (f"{count} found, none of them chosen: see labels, kinds and max_voxels",)
    domains = prediction.domains
    voxels = np.bincount(domains.ravel(), minlength=max((i.label for i in chosen), default=0) + 1)
    seen = {
        i.label: _instance_level(prediction, i, int(voxels[i.label]))
        for i in chosen
        if i.label not in unseen
    }
    return Explanations(domains, seen, notes)


def _instance_level(prediction: Prediction, instance: Instance, voxels: int) -> Explanation:
    size = f"{instance.volume_mm3:.0f} mm³"
    title = f"Lesion {instance.label} ({instance.kind}, {size})"
    row = lesion_row(prediction, instance)
    return Explanation(f"lesion-{instance.label:04d}", title, row, voxels)


def _class_level(prediction: Prediction, domain: np.ndarray, on_network: np.ndarray) -> Explanation:
    row, voxels = class_row(domain, prediction.grid), int(np.count_nonzero(on_network))
    if prediction.scan.parcellation is not None:
        row["region"] = None  # it may have lesions in several
    return Explanation("class", "All segmented voxels", row, voxels)
