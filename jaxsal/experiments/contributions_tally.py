"""Counts over the maps of a cohort, also by distance from a lesion's border in steps of a mm."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from scipy import ndimage

from jaxsal.box import Box
from jaxsal.cohort.columns import MethodOutline
from jaxsal.cohort.results import ScanResults
from jaxsal.experiments.contributions_magnitudes import Coarse, Magnitudes, together
from jaxsal.saliency.maps import Crop
from jaxsal.scan.lesion_table import distances

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


SHELLS = Shells()
SIGNS = ("positive", "negative")

Key = tuple[str, str, str]  # kind, channel, sign


@dataclass
class Signed:
    """The values of one sign of all maps of a kind and channel.

    Attributes:
        magnitudes: of the values that are not too small.
        voxels: their number in each shell.
        amount: sum of the magnitudes of all values in each shell.
        medians: of the lesions that have any that are not too small.
        subjects: the values' counts of each subject that has such lesions.
    """

    magnitudes: Magnitudes = field(default_factory=Magnitudes)
    voxels: np.ndarray = field(default_factory=lambda: np.zeros(len(SHELLS)))
    amount: np.ndarray = field(default_factory=lambda: np.zeros(len(SHELLS)))
    medians: list[float] = field(default_factory=list)
    subjects: dict[str, Coarse] = field(default_factory=dict)


@dataclass
class Tally:
    """Counts over all maps, by kind of lesion, channel and sign.

    Attributes:
        least: magnitude below which values do not count; amounts are of all values.
        signed: by kind, channel and sign.
        lesions: number of them by kind.
        scans: number of those that have any, by kind.
    """

    least: float
    signed: defaultdict[Key, Signed] = field(default_factory=lambda: defaultdict(Signed))
    lesions: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    scans: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))

    def add_scan(self, scan: ScanResults, method: MethodOutline) -> int:
        """Counts the maps of a scan; returns their number."""
        own: defaultdict[Key, Magnitudes] = defaultdict(Magnitudes)
        for row in scan.rows:
            crop = scan.map(row["label"], method)
            self.lesions[row["kind"]] += 1
            shells = SHELLS.of(crop, scan.labels == row["label"], scan.grid.spacing).ravel()
            for channel, values in zip(scan.channels, np.moveaxis(crop.values, -1, 0), strict=True):
                for sign, part in zip(SIGNS, (values, -values), strict=True):
                    key = row["kind"], channel, sign
                    self._add(key, part.ravel(), shells, own[key])
        for key, magnitudes in own.items():
            self.signed[key].magnitudes.merge(magnitudes)
            subjects, subject = self.signed[key].subjects, scan.rows[0]["subject"]
            counts = magnitudes.coarse()
            before = subjects.get(subject)
            subjects[subject] = counts if before is None else together(before, counts)
        for kind in {row["kind"] for row in scan.rows}:
            self.scans[kind] += 1
        return len(scan.rows)

    def _add(self, key: Key, values: np.ndarray, shells: np.ndarray, own: Magnitudes) -> None:
        tally = self.signed[key]
        tally.amount += SHELLS.sums(shells, np.maximum(values, 0))
        strong = (values >= self.least) & (values > 0)
        tally.voxels += SHELLS.sums(shells[strong], np.ones(int(strong.sum())))
        if strong.any():
            own.add(values[strong])
            tally.medians.append(float(np.median(values[strong])))
