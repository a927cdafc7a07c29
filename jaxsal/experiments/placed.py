"""Scans in which lesion domains are placed, and their maps: what `sanity` and `synthetic` share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from jaxsal.cohort.results import CohortResults, ScanResults
from jaxsal.errors import InputError
from jaxsal.experiments.choice import FOUND, clearest, none_of_volume, of_volume
from jaxsal.experiments.each_scan import each_scan, entry_from_json
from jaxsal.experiments.head_outline import head
from jaxsal.experiments.regions import LESION_MARGIN, distance_mm, white_matter
from jaxsal.grid import Grid
from jaxsal.inputs.entries import Entry
from jaxsal.inputs.images import read_brain
from jaxsal.lesions import Instance
from jaxsal.tables import Row
from jaxsal.volumes import read_mask, read_volume

if TYPE_CHECKING:
    from jaxsal.experiments.sanity import SanitySettings
    from jaxsal.experiments.study import Study
    from jaxsal.experiments.synthetic import SyntheticSettings
    from jaxsal.scan.prediction import Prediction

    Placing: TypeAlias = "SanitySettings | SyntheticSettings"


def mask_path(folder: str, entry: Entry) -> Path:
    """Where the user's mask of a scan's white matter belongs."""
    return Path(folder).expanduser() / f"{entry.stem}.nii.gz"


@dataclass(frozen=True, eq=False)
class Original:
    """A scan as it is in its files.

    Attributes:
        entry: the scan.
        prediction: its lesions.
        channels: names of its images.
        masks: folder of the user's masks of white matter; None: a rule finds it.
    """

    entry: Entry
    prediction: Prediction
    channels: tuple[str, ...]
    masks: str | None = None

    @property
    def grid(self) -> Grid:
        """Of the images."""
        return self.prediction.scan.grid

    @cached_property
    def images(self) -> np.ndarray:
        """(X, Y, Z, C) float32, in the units of the files and the axes of the grid."""
        volumes = [read_volume(path).data for path in self.entry.scan.images]
        return self.grid.from_file(np.stack(volumes, axis=-1))

    @cached_property
    def head(self) -> np.ndarray:
        """(X, Y, Z) bool; the brain where there is a mask of it."""
        return head(self.images) if self.brain is None else self.brain

    @cached_property
    def brain(self) -> np.ndarray | None:
        """(X, Y, Z) bool, the scan's own mask, if it has one."""
        path = self.entry.scan.mask
        return None if path is None else read_brain(path, self.grid)

    @cached_property
    def lesions(self) -> np.ndarray:
        """(X, Y, Z) bool: predicted, given, and those of the reference."""
        lesions: np.ndarray = self.prediction.labels > 0
        reference = self.prediction.scan.reference
        return lesions if reference is None else lesions | reference

    @cached_property
    def suspicious(self) -> np.ndarray:
        """(X, Y, Z) bool: lesions, and what is as probable but too small for one."""
        suspicious: np.ndarray = self.lesions | self.prediction.segmented
        return suspicious

    @cached_property
    def white_matter(self) -> tuple[np.ndarray, str]:
        """(X, Y, Z) bool, of healthy white matter, and ""; or an empty mask and why."""
        try:
            return self._find_white_matter(), ""
        except InputError as error:
            return np.zeros(self.grid.shape, bool), str(error)

    def _find_white_matter(self) -> np.ndarray:
        if self.masks is None:
            return white_matter(self.images, self.channels, self.head, self.lesions, self.grid)
        path = mask_path(self.masks, self.entry)
        if not path.exists():
            raise InputError(
                f"there is no mask of white matter {path}: masks are named after scans as results "
                "are, or leave out --white-matter to have it found on FLAIR and T1"
            )
        return read_mask(path, self.grid) & (distance_mm(self.lesions, self.grid) > LESION_MARGIN)


def begin(
    study: Study, settings: Placing, entry: Entry, prediction: Prediction
) -> tuple[Original, list[Instance], list[Row]]:
    """A scan in which domains are to be placed.

    Returns:
        The scan; its lesions of the wanted volumes, the most probable first; and a row for every
        lesion that was found, to propose other volumes by.
    """
    found = [each for each in prediction.instances if each.kind in FOUND]
    return (
        Original(entry, prediction, study.model.channels, settings.white_matter),
        clearest(of_volume(found, settings.volume), prediction)[: settings.lesions],
        [{"found": True, "volume_mm3": each.volume_mm3} for each in found],
    )


def plans_of(
    study: Study,
    name: str,
    settings: Placing,
    place: Callable[[Entry, Prediction], list[Row]],
) -> list[Row]:
    """What is placed in all scans.

    Args:
        study: the scans.
        name: of the experiment.
        settings: of it.
        place: writes the scans with domains; a row for each domain with what is known of it, its
            scan under "entry" and its lesion, if it is of one, under "label"; rows of `begin`; and
            rows of notes.

    Returns:
        The rows of domains; those of one derived scan follow each other.
    """

    def masks(entry: Entry) -> dict[str, Path]:
        folder = settings.white_matter
        return {} if folder is None else {"white matter": mask_path(folder, entry)}

    identity = {**asdict(settings), "seed": study.saliency.seed}
    rows = each_scan(study, name, identity, place, masks)
    plans = [row for row in rows if "entry" in row]
    if all(row["label"] is None for row in plans):
        volumes = [row["volume_mm3"] for row in rows if row.get("found")]
        study.note_none(none_of_volume(volumes, settings.volume))
    return plans


def explained(study: Study, name: str, plans: Sequence[Row]) -> CohortResults:
    """The maps of what is placed, by the signed maximum."""
    entries = {row["entry"]["id"]: entry_from_json(row["entry"]) for row in plans}
    return study.run(name, list(entries.values()), replace(study.saliency, aggregate="max"))


class Opened:
    """The finished scans of a run, opened on demand and not kept in memory.

    What is read of a scan is cached by the `ScanResults` that is returned, and goes with it.
    """

    def __init__(self, results: CohortResults) -> None:
        self._scans = {scan.id: scan for scan in results.scans()}
        (self.method,) = results.methods.values()

    def scan(self, name: str) -> ScanResults | None:
        """A scan of which nothing is read yet; None if it failed."""
        scan = self._scans.get(name)
        return scan and ScanResults(scan.folder, scan.record, scan.channels)

    def one_by_one(self, plans: Sequence[Row]) -> Iterator[tuple[ScanResults, list[Row]]]:
        """The finished scans, each with what is placed in it."""
        for name, rows in groupby(plans, key=lambda row: row["entry"]["id"]):
            scan = self.scan(name)
            if scan is not None:
                yield scan, list(rows)
