"""A network, a cohort and a folder: what experiments ask their questions of.

Maps come from runs over the cohort, or over scans derived from it, each in a folder of its own
under ``runs``: they are recorded lesion by lesion, resumed after a kill, and shared by the
experiments of one folder.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from jaxsal import __version__
from jaxsal.approximated import EXACT, footnote, warning
from jaxsal.cohort.job import CohortJob
from jaxsal.cohort.results import CohortResults
from jaxsal.cohort.run import run_cohort
from jaxsal.errors import InputError
from jaxsal.experiments.reused import ReusedMaps
from jaxsal.inputs.entries import Entry, distinct
from jaxsal.model import Model
from jaxsal.progress import Monitor, Silence
from jaxsal.saliency.methods.smoothgrad import SmoothGradSettings
from jaxsal.scan.prediction import completed
from jaxsal.scan.provenance import model_facts
from jaxsal.settings import CohortSettings, MethodSettings, PredictSettings
from jaxsal.store.identity import OtherResultsError
from jaxsal.wording import one_line


@dataclass(frozen=True, eq=False)
class Study:
    """A network, a cohort and a folder.

    Attributes:
        model: the network.
        entries: the scans.
        out: the folder.
        prediction: how lesions are found.
        saliency: how maps are computed.
        portion: as in `jaxsal.settings.CohortSettings`.
        maps: folder of a run over the cohort whose maps are used rather than computed again; it is
            only read.
        monitor: shows how far it is.
        notes: what could not be done, in sentences; grows.
        left_out: what scans that failed are called; grows.
        counted: maps that were used, "all" and those that are "approximated"; grows.
        field: what is differentiated, as in `jaxsal.settings.ExplainSettings`.
    """

    model: Model
    entries: Sequence[Entry]
    out: Path
    prediction: PredictSettings = field(default_factory=PredictSettings)
    saliency: SmoothGradSettings = field(default_factory=SmoothGradSettings)
    portion: int = CohortSettings.portion
    maps: Path | None = None
    monitor: Monitor = field(default_factory=Silence)
    notes: list[str] = field(default_factory=list)
    left_out: set[str] = field(default_factory=set)
    counted: Counter[str] = field(default_factory=Counter)
    field: str = "sliding"

    def __post_init__(self) -> None:
        known = self.model.preprocessing
        if known is not None:  # what experiments place and count is on one grid, the scan's
            own = replace(self.model, preprocessing=replace(known, permit="none"))
            object.__setattr__(self, "model", own)

    @cached_property
    def facts(self) -> dict[str, Any]:
        """What all findings depend on, ready for JSON."""
        return {
            "jaxsal": __version__,
            "scans": [entry.id for entry in self.entries],
            "model": model_facts(self.model),
            "prediction": asdict(completed(self.prediction, self.model)),
            "saliency": {**asdict(self.saliency), "field": self.field},
        }

    @property
    def threshold(self) -> float:
        """Lesion probability at and above which a voxel is lesion.

        Raises:
            InputError: lesions are found by another rule.
        """
        threshold = completed(self.prediction, self.model).threshold
        if threshold is None:
            raise InputError(
                "experiments ask whether a threshold is reached, which the domain argmax has not: "
                "find lesions by a threshold"
            )
        return threshold

    @property
    def footnote(self) -> str:
        """What a figure says of approximated maps; empty if all that are used are exact."""
        return footnote(self.saliency, self.counted["approximated"], self.counted["all"])

    def lesions(self) -> CohortResults:
        """The maps of all lesions of the cohort: Eq. 3, the signed maximum.

        Raises:
            InputError: those of `maps` are of another model, other settings or other scans.
        """
        saliency = replace(self.saliency, aggregate="max")
        if self.maps is None:
            return self.run("lesions", self.entries, saliency)
        self.note(warning(saliency))
        settings = CohortSettings((saliency,), field=self.field)
        job = CohortJob(self.model, self.prediction, settings)
        reused = ReusedMaps(self.maps, list(distinct(self.entries)), job)
        for scan, reason in reused.left_out.items():
            self.leave_out(self.maps.name, scan, reason)
        return self._count(reused, saliency)

    def run(
        self, name: str, entries: Sequence[Entry], saliency: SmoothGradSettings | None = None
    ) -> CohortResults:
        """The maps of all lesions of some scans.

        Args:
            name: of the run, and of its folder under ``runs``.
            entries: the scans.
            saliency: how maps are computed; None: as the study's.
        """
        saliency = saliency or self.saliency
        return self._count(self.run_method(name, entries, saliency), saliency)

    def run_method(
        self, name: str, entries: Sequence[Entry], saliency: MethodSettings
    ) -> CohortResults:
        """As `run`, by any method; its maps are not counted among those that are used.

        Scans that failed in an earlier run are tried again, as those are that an experiment itself
        could not work with.
        """
        if isinstance(saliency, SmoothGradSettings):
            self.note(warning(saliency))
        root = self.out / "runs" / name
        self.monitor.stage(name)
        begun = _kept(root)
        run = run_cohort(
            self.model,
            entries,
            root,
            prediction=self.prediction,
            settings=CohortSettings(
                (saliency,),
                field=self.field,
                output=begun.get("output", "cropped"),
                portion=begun.get("portion", self.portion),
            ),
            retry_failed=True,
            on_scan=lambda entry, progress: self.monitor.detail(
                f"{entry.id}: {progress.lesions_done}/{progress.lesions} maps"
            ),
        )
        with _without_overwriting(), run:
            for done, result in enumerate(run, start=1):
                self.monitor.count(done, len(run.entries), "scans")
                if result.status == "failed":
                    self.leave_out(name, result.id, result.reason)
                elif result.reason:
                    self.note(f"{name}: {result.id}: {result.reason}")
        return CohortResults(root)

    def _count(self, results: CohortResults, saliency: SmoothGradSettings) -> CohortResults:
        """Counts the maps that are used, and those of them that are approximated."""
        for scan in results.scans():
            hows = [saliency.approximation(row["voxels"]) for row in scan.rows]
            self.counted["all"] += len(hows)
            self.counted["approximated"] += sum(how != EXACT for how in hows)
        return results

    def leave_out(self, where: str, scan: str, reason: str) -> None:
        """Keeps that a scan failed, and why, once; shows it at once, too."""
        self.left_out.add(scan)
        failure = one_line(f"{scan} is left out: {reason}")
        if not any(note.endswith(f": {failure}") for note in self.notes):
            self.note(f"{where}: {failure}")
            self.monitor.say(self.notes[-1])

    def note(self, text: str) -> None:
        """Keeps a sentence for the reader of the findings, once; an empty one is none."""
        text = one_line(text)
        if text and text not in self.notes:
            self.notes.append(text)

    def say(self, text: str) -> None:
        """Shows at once what the findings say in other words; an empty sentence is none."""
        if text:
            self.monitor.say(text)

    def note_none(self, text: str) -> None:
        """As `note`, of what there is in no scan; not where all are left out, which says why."""
        if not self.entries or any(entry.id not in self.left_out for entry in self.entries):
            self.note(text)


@contextmanager
def _without_overwriting() -> Iterator[None]:
    """Experiments remove no earlier results, so no message says to have them removed."""
    try:
        yield
    except OtherResultsError as error:
        advice = "Go on with what it was begun with, or give another folder for the results (--out)"
        raise OtherResultsError(error.difference, advice) from error


def _kept(root: Path) -> dict[str, Any]:
    """The settings of the run that began a folder; {} if there is none."""
    try:
        return dict(CohortResults(root).identity["settings"])
    except (InputError, KeyError):
        return {}
