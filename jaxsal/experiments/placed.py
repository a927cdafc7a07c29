"""Lesion domains placed in scans, and their maps: what the sanity checks and `synthetic` share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from jaxsal.cohort.results import CohortResults, ScanResults
from jaxsal.experiments.choice import FOUND, clearest, none_of_volume, of_volume
from jaxsal.experiments.each_scan import each_scan
from jaxsal.experiments.kept import entry_from_json
from jaxsal.experiments.originals import Original, mask_path
from jaxsal.inputs.entries import Entry
from jaxsal.lesions import Instance
from jaxsal.tables import Row

if TYPE_CHECKING:
    from jaxsal.experiments.study import Study
    from jaxsal.scan.prediction import Prediction


class Placing(Protocol):
    """Settings of experiments that place lesion domains: a dataclass.

    Attributes:
        volume: smallest and largest lesion, in mm³, both included.
        lesions: lesions per scan at most.
        white_matter: folder of masks of white matter; None: a rule finds it.
    """

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def volume(self) -> tuple[float, float]: ...

    @property
    def lesions(self) -> int: ...

    @property
    def white_matter(self) -> str | None: ...


@dataclass(frozen=True, eq=False)
class Begun:
    """A scan in which domains are to be placed.

    Attributes:
        original: the scan.
        chosen: lesions of the wanted volumes, the most probable first.
        rows: one for every lesion that was found, to propose other volumes by.
    """

    original: Original
    chosen: Sequence[Instance]
    rows: list[Row]


def begin(study: Study, settings: Placing, entry: Entry, prediction: Prediction) -> Begun:
    """A scan, and the lesions to work with."""
    found = [each for each in prediction.instances if each.kind in FOUND]
    return Begun(
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
        study.note(none_of_volume(volumes, settings.volume))
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
