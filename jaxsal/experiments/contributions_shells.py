"""Distances from a lesion's border in steps of a millimetre, and what a map holds at each."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy import ndimage

from jaxsal.box import Box
from jaxsal.saliency.maps import Crop
from jaxsal.scan.map_statistics import distances

_ROUNDING = 1e-6  # of distances, in mm: what is 3 mm away belongs to the step from 2 to 3 mm


@dataclass(frozen=True)
class Shells:
    """Steps of 1 mm inside and outside a lesion.

    Distances are those between voxels' centres: outside to the nearest voxel of the lesion, inside,
    as negative numbers, to the nearest voxel that is not of it.

    Attributes:
        inside: the deepest step begins at so many mm; all that is deeper belongs to it.
        outside: the last step ends at so many mm; one more holds all beyond.
    """

    inside: int = 10
    outside: int = 50

    def __len__(self) -> int:
        return self.inside + self.outside + 1

    @property
    def bounds(self) -> list[tuple[float, float]]:
        """From where to where each goes, in mm."""
        edges = [-np.inf, *range(1 - self.inside, self.outside + 1), np.inf]
        return list(pairwise(edges))

    def of(self, crop: Crop, domain: np.ndarray, spacing: tuple[float, float, float]) -> np.ndarray:
        """In which shell each voxel of a map's crop lies: (x, y, z) int.

        Args:
            crop: the map.
            domain: (X, Y, Z) bool, the lesion on the image's grid; not empty.
            spacing: voxel size in mm.
        """
        depth = crop.box.cut(_depth(domain, spacing))
        outward = np.ceil(distances(crop, domain, spacing) - _ROUNDING) - 1
        inward = -np.ceil(depth - _ROUNDING)
        steps = np.where(depth > 0, np.maximum(inward, -self.inside), outward)
        return (np.minimum(steps, self.outside) + self.inside).astype(np.intp)

    def sums(self, shells: np.ndarray, values: np.ndarray) -> np.ndarray:
        """The sum of values (V,) in each shell, given in which of them each lies (V,)."""
        return np.bincount(shells, values, minlength=len(self))


def _depth(domain: np.ndarray, spacing: tuple[float, float, float]) -> np.ndarray:
    """(X, Y, Z) mm from voxels of the lesion to the nearest one outside; 0 outside."""
    box = Box.around(np.argwhere(domain))
    around = np.pad(box.cut(domain), 1)  # beyond the image there is no lesion
    depth = ndimage.distance_transform_edt(around, sampling=spacing)[1:-1, 1:-1, 1:-1]
    return box.place(depth.astype(np.float32), domain.shape)
