"""What each saliency method is asked for, and how its maps appear in files, table and pictures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from jaxsal.field import LogitField
from jaxsal.model import Model
from jaxsal.progress import OnProgress
from jaxsal.saliency.gradcam.gradcam import heat_maps
from jaxsal.saliency.gradcam.maps import HeatMaps
from jaxsal.saliency.maps import Crop
from jaxsal.saliency.smoothgrad import smoothgrad_stream
from jaxsal.scan.statistics import POSITIVE, SIGNED, map_statistics
from jaxsal.settings import ExplainSettings, SmoothGradSettings
from jaxsal.tables import Column
from jaxsal.types import Scale

_NAMES = {"gradcam++": "Grad-CAM++", "gradcam": "Grad-CAM"}


@dataclass(frozen=True)
class Appearance:
    """How a method's maps appear.

    Attributes:
        maps: what a map has one of each for, at the head of the table's columns: the image's
            channels, or the method itself.
        files: the same in the names of files.
        statistics: names and meanings of the table's columns for each of these.
        noisy: how maps are means over noise samples, which the table counts; None: they are not.
        scale: of the pictures' colours.
        units: of the map.
        subtitle: what a picture's title says after the lesion.
    """

    maps: tuple[str, ...]
    files: tuple[str, ...]
    statistics: Mapping[str, str]
    noisy: SmoothGradSettings | None
    scale: Scale
    units: str
    subtitle: str = ""

    @property
    def signed(self) -> bool:
        """Whether maps have negative values, too."""
        return self.scale == "diverging"

    def table_columns(self) -> list[str]:
        """The table's columns for what maps amount to."""
        counted = ["samples", "approximated"] if self.noisy else []
        return counted + [column.key for column in self.page_columns()]

    def page_columns(self) -> list[Column]:
        """The page's columns for the same, without the number of samples."""
        return [
            Column(f"{name}_{key}", key.replace("_", " "), meaning, None, group=name)
            for name in self.maps
            for key, meaning in self.statistics.items()
        ]

    def row(self, crop: Crop, domain: np.ndarray) -> dict[str, Any]:
        """A map's part of a row of the table; the domain is (X, Y, Z) bool."""
        row: dict[str, Any] = {}
        if self.noisy is not None:
            voxels = int(np.count_nonzero(domain))
            row = {"samples": crop.samples, "approximated": self.noisy.approximation(voxels)}
        for name, values in zip(self.maps, map_statistics(crop, domain), strict=True):
            row.update({f"{name}_{key}": values[key] for key in self.statistics})
        return row


def appearance(settings: ExplainSettings, channels: Sequence[str]) -> Appearance:
    """How the maps of these settings appear, for an image with these channels."""
    saliency, name = settings.saliency, settings.name
    if isinstance(saliency, SmoothGradSettings):
        files = tuple(f"{channel}_{name}" for channel in channels)
        units = "logit per standard deviation"
        return Appearance(tuple(channels), files, SIGNED, saliency, "diverging", units)
    subtitle = f", {_NAMES[name]} at {saliency.layer}"
    return Appearance((name,), (name,), POSITIVE, None, "sequential", "logits", subtitle)


def compute_maps(
    model: Model,
    field: LogitField,
    image: np.ndarray,
    labels: np.ndarray,
    settings: ExplainSettings,
    on_progress: OnProgress | None,
) -> Iterator[tuple[int, Crop]]:
    """Each label with its map; with SmoothGrad as soon as that is computed.

    Args:
        model: the network.
        field: that runs it.
        image: (X, Y, Z, C).
        labels: (X, Y, Z) int32, the domains to explain; at class level a single one.
        settings: which maps.
        on_progress: called as lesions are done.
    """
    saliency = settings.saliency
    if isinstance(saliency, SmoothGradSettings):
        crops = smoothgrad_stream(field, image, labels, saliency, on_progress=on_progress)
        # A tolerance has it computed unasked.
        return crops if saliency.standard_error else map(_without_error, crops)
    pooled = settings.level == "class"
    return _crops(
        heat_maps(
            model, image, labels, saliency, pooled=pooled, field=field, on_progress=on_progress
        )
    )


def _without_error(labelled: tuple[int, Crop]) -> tuple[int, Crop]:
    label, crop = labelled
    return label, replace(crop, standard_error=None)


def _crops(maps: HeatMaps) -> Iterator[tuple[int, Crop]]:
    """One after the other, for they take more memory than what they are made of."""
    for label in maps.labels:
        yield label, maps.crop(label)
