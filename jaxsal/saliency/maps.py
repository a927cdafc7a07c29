"""Saliency maps of the lesions of one image, stored as crops."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from jaxsal.box import Box
from jaxsal.errors import InputError, warn
from jaxsal.types import Triple
from jaxsal.wording import counted

if TYPE_CHECKING:
    from jaxsal.arrays import SaliencyCrop, SaliencyMap

CLASS_LEVEL = 0  # the label under which a class-level map is stored


@dataclass(frozen=True, repr=False)
class Crop:
    """A map on a box of the image; outside of it the map is zero.

    Attributes:
        values: (x, y, z, C) float32.
        origin: position of values[0, 0, 0] in the image.
        samples: number of noisy images that it is the mean of; 1 for methods without noise.
        standard_error: of the values over the noisy images, in their shape; None if not asked for
            or not known.
        figures: what else its method found of the lesion, by the names of `jaxsal.Appearance`;
            None where that is not defined.
    """

    values: SaliencyCrop
    origin: Triple
    samples: int
    standard_error: SaliencyCrop | None = None
    figures: Mapping[str, float | None] = field(default_factory=dict)

    def __repr__(self) -> str:
        *shape, channels = self.values.shape
        place = f"origin {self.origin}, shape {tuple(shape)}"
        return f"Crop({place}, {counted(channels, 'channel')})"

    @property
    def box(self) -> Box:
        """The part of the image that it covers."""
        return Box.at(self.origin, self.values.shape)

    def on(self, box: Box) -> SaliencyCrop:
        """The values (x, y, z, C) on a box of the image, which may reach beyond the crop's."""
        values: SaliencyCrop = box.seen_from(self.origin).cut(self.values, beyond=0)
        return values

    @property
    def variance(self) -> SaliencyCrop | None:
        """Of what the values are the mean of, over the samples (the population's), in their shape.

        None if the standard error is. VarGrad (Adebayo et al. 2018) if the values are SmoothGrad's.
        """
        if self.standard_error is None:
            return None
        return self.standard_error**2 * np.float32(self.samples - 1)


@dataclass(frozen=True, repr=False)
class SaliencyMaps:
    """One map per lesion, in logits per unit of each image channel.

    Attributes:
        crops: the maps by label; a class-level map has the label 0.
        shape: the image's grid (X, Y, Z).
    """

    crops: Mapping[int, Crop]
    shape: Triple

    def __repr__(self) -> str:
        channels = {crop.values.shape[-1] for crop in self.crops.values()}
        said = [counted(len(self.crops), "label"), f"shape {self.shape}"]
        return f"SaliencyMaps({', '.join([*said, *(counted(n, 'channel') for n in channels)])})"

    @property
    def labels(self) -> tuple[int, ...]:
        """The labels that have a map, in increasing order."""
        return tuple(sorted(self.crops))

    def crop(self, label: int = CLASS_LEVEL) -> Crop:
        """The map of a lesion where it can be non-zero.

        Raises:
            InputError: there is no map of this label.
        """
        if label not in self.crops:
            raise InputError(f"no map of label {label}; there are maps of {list(self.labels)}")
        return self.crops[label]

    def dense(self, label: int = CLASS_LEVEL) -> SaliencyMap:
        """The map of a lesion on the image's grid: (X, Y, Z, C) float32.

        Raises:
            InputError: there is no map of this label.
        """
        crop = self.crop(label)
        return crop.box.place(crop.values, self.shape)


def warn_unless_finite(label: int, *values: np.ndarray) -> None:
    """Warns of a lesion's map that is not finite everywhere, on behalf of the caller's caller."""
    if not all(np.isfinite(part).all() for part in values):
        warn(
            f"the map of lesion {label} has infinite values or some that are not numbers: the "
            "network's gradient overflows there",
        )
