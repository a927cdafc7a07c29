"""Counts over the maps of a cohort, which are read one after the other."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np

from jaxsal.cohort.outline import MethodOutline
from jaxsal.cohort.results import ScanResults
from jaxsal.experiments.contributions_magnitudes import Coarse, Magnitudes, together
from jaxsal.experiments.contributions_shells import Shells

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
