"""In which order the voxels around a lesion are hidden or shown: by a map, or without any."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from jaxsal.box import Box
from jaxsal.saliency.infill import Spacing, around, distances
from jaxsal.saliency.maps import Crop

RADIUS_MM = 20.0
"""How far around a lesion voxels are ranked, in mm."""

BLIND = ("random", "distance")
"""Rankings that know nothing of the network: by chance, and the nearest voxels of Ω first."""


@dataclass(frozen=True, eq=False)
class Surroundings:
    """A lesion Ω and the voxels within `RADIUS_MM` of it, which are ranked.

    Attributes:
        omega: (X, Y, Z) bool, the lesion.
        region: the box of the image that holds them.
        near: (x, y, z) bool, which of the box's voxels they are.
        away: (N,) their distances from Ω in mm, 0 inside.
        chance: (N,) their order by chance, by which ties are broken.
    """

    omega: np.ndarray
    region: Box
    near: np.ndarray
    away: np.ndarray
    chance: np.ndarray

    @classmethod
    def of(cls, omega: np.ndarray, spacing: Spacing, rng: np.random.Generator) -> Surroundings:
        """Those of a lesion.

        Args:
            omega: (X, Y, Z) bool, not empty.
            spacing: voxel size in mm.
            rng: draws the order by chance.
        """
        region, near = around(omega, RADIUS_MM, spacing)
        away = distances(omega, RADIUS_MM, spacing)[1][near]
        return cls(omega, region, near, away, rng.permutation(len(away)))

    def blind(self, name: str) -> np.ndarray:
        """The order (N,) of a ranking of `BLIND`: indices of the voxels, first to last."""
        return self.chance if name == "random" else self._descending(-self.away)

    def by_map(self, crop: Crop, channel: int | None) -> np.ndarray:
        """The order (N,) by a map's magnitude, the largest first; 0 where the crop is not.

        Args:
            crop: the map, in the grid of Ω; it may reach out of it.
            channel: whose magnitude, of maps with one channel the only one's; None: the sum of all.
        """
        values = np.abs(crop.on(self.region))
        if channel is None or values.shape[-1] == 1:
            values = values.sum(axis=-1)
        else:
            values = values[..., channel]
        return self._descending(values[self.near])

    def first(self, order: np.ndarray, percent: float) -> np.ndarray:
        """The first so many percent of an order, one voxel at least: (x, y, z) bool."""
        count = max(1, round(percent / 100 * len(order)))
        chosen = np.zeros(len(order), bool)
        chosen[order[:count]] = True
        found = np.zeros_like(self.near)
        found[self.near] = chosen
        return found

    def _descending(self, values: np.ndarray) -> np.ndarray:
        """By value, the largest first; equal ones by chance."""
        found: np.ndarray = self.chance[np.argsort(-values[self.chance], kind="stable")]
        return found
