"""Spheres of tissue that is no lesion, and their maps: true negatives."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from jaxsal.errors import InputError, require
from jaxsal.experiments.derived import Derived, derive, generator_of
from jaxsal.experiments.head_outline import head
from jaxsal.experiments.regions import place_spheres, require_sphere_volume
from jaxsal.inputs.entries import Entry
from jaxsal.options import option
from jaxsal.volumes import read_mask

if TYPE_CHECKING:
    from jaxsal.cohort.results import CohortResults, ScanResults
    from jaxsal.experiments.study import Study


@dataclass(frozen=True)
class SphereSettings:
    """Settings of true negatives.

    Attributes:
        spheres: spheres per scan of tissue that is no lesion (TN).
        sphere_volume: volume of a sphere, in mm³.
    """

    spheres: int = option(10, "N")
    sphere_volume: float = option(93.0, "MM3")

    def __post_init__(self) -> None:
        require(self.spheres >= 0, "spheres", "zero or more", self.spheres)
        require_sphere_volume(self.sphere_volume)


def true_negatives(
    study: Study, settings: SphereSettings, results: CohortResults
) -> CohortResults | None:
    """The maps of the spheres of all scans with a reference; None if there are no spheres.

    Args:
        study: of the scans.
        settings: how many spheres there are, and of which size.
        results: the maps of the scans' own lesions.
    """
    entries = {entry.stem: entry for entry in study.entries if entry.scan.reference is not None}
    derived: list[Entry] = []
    for scan in results.scans():
        if settings.spheres and scan.record.stem in entries:
            try:
                derived += _with_spheres(study, settings, entries[scan.record.stem], scan)
            except InputError as error:
                study.leave_out("true-negatives", scan.id, str(error))
    if not derived:
        return None
    return study.run("true-negatives", derived, replace(study.saliency, aggregate="max"))


def _with_spheres(
    study: Study, settings: SphereSettings, entry: Entry, scan: ScanResults
) -> list[Entry]:
    """The scan with spheres for lesions; none if there is no room."""
    assert entry.scan.reference is not None
    forbidden = scan.labels > 0
    forbidden |= scan.probability >= study.threshold  # also what is too small for a lesion
    forbidden |= read_mask(entry.scan.reference, scan.grid)
    labels = place_spheres(
        head(scan.image),
        forbidden,
        settings.sphere_volume,
        settings.spheres,
        scan.grid,
        generator_of(entry, study.saliency.seed),
    )
    placed = int(labels.max())
    if placed < settings.spheres:
        study.note(
            f"{entry.id}: there is room for {placed} of {settings.spheres} spheres of "
            f"{settings.sphere_volume:g} mm³ inside the head and off lesions"
        )
    return derive(study, "true-negatives", entry, scan.grid, [Derived("", labels)])
