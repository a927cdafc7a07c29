"""A network, a cohort and a folder: what experiments ask their questions of.

Maps come from runs over the cohort, or over scans derived from it, each in a folder of its own
under ``runs``: they are recorded lesion by lesion, gone on with after a kill, and shared by the
experiments of one folder.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from jaxsal import __version__
from jaxsal.cohort.job import Job
from jaxsal.cohort.results import CohortResults
from jaxsal.cohort.run import run_cohort
from jaxsal.cohort.storage.folder import CohortFolder
from jaxsal.errors import InputError
from jaxsal.experiments.folder import opened
from jaxsal.experiments.kept import KeptRows, Made
from jaxsal.experiments.monitor import Monitor, Silence
from jaxsal.experiments.reused import ReusedMaps
from jaxsal.grid import Grid
from jaxsal.inputs.entries import Entry, distinct
from jaxsal.inputs.one_by_one import one_by_one
from jaxsal.inputs.scan import LoadedScan, Scan
from jaxsal.model import Model
from jaxsal.saliency.methods.smoothgrad import SmoothGradSettings
from jaxsal.scan.notes import notes_of
from jaxsal.scan.prediction import Prediction, completed, find_lesions
from jaxsal.scan.provenance import model_facts
from jaxsal.settings import EXACT, CohortSettings, PredictSettings
from jaxsal.store.identity import OtherResultsError
from jaxsal.tables import Row
from jaxsal.volumes import write_volume


@dataclass(frozen=True)
class Derived:
    """A scan made from one of the cohort's.

    Attributes:
        tag: what tells it from others of the same scan, letters and digits; "" if there are none.
        labels: (X, Y, Z) int32, the domains to explain.
        images: one (X, Y, Z) per channel, in the units of the files; None: the scan's own.
        brain: (X, Y, Z) bool, outside of which everything is background; None: as of the scan.
    """

    tag: str
    labels: np.ndarray
    images: Sequence[np.ndarray] | None = None
    brain: np.ndarray | None = None


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
        monitor: is told how far it is.
        notes: what could not be done, in sentences; grows.
        left_out: what scans that failed are called; grows.
        field: what is differentiated, as in `jaxsal.settings.ExplainSettings`.
        counted: maps that were used, "all" and those that are "approximated"; grows.
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

    @contextmanager
    def opened(self) -> Iterator[None]:
        """The folder in use by one experiment at a time.

        Raises:
            InputError: another one is at work in it, it cannot be made, or others wrote into it.
        """
        with opened(self.out):
            yield

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

    def lesions(self) -> CohortResults:
        """The maps of all lesions of the cohort: Eq. 3, the signed maximum.

        Raises:
            InputError: those of `maps` are of another model, other settings or other scans.
        """
        saliency = replace(self.saliency, aggregate="max")
        if self.maps is None:
            return self._run(self.out / "runs" / "lesions", self.entries, saliency)
        self._tell_approximation(saliency)
        settings = CohortSettings((saliency,), field=self.field)
        job = Job(self.model, self.prediction, settings)
        reused = ReusedMaps(self.maps, list(distinct(self.entries)), job)
        for scan, reason in reused.left_out.items():
            self._leave_out(self.maps.name, scan, reason)
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
        return self._run(self.out / "runs" / name, entries, saliency or self.saliency)

    def _run(
        self, root: Path, entries: Sequence[Entry], saliency: SmoothGradSettings
    ) -> CohortResults:
        self.monitor.stage(root.name)
        self._tell_approximation(saliency)
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
            on_scan=lambda entry, progress: self.monitor.detail(
                f"{entry.id}: {progress.lesions_done}/{progress.lesions} maps"
            ),
        )
        with _without_overwriting(), run:
            for done, result in enumerate(run, start=1):
                self.monitor.count(done, len(run.entries), "scans")
                if result.status == "failed":
                    self._leave_out(root.name, result.id, result.reason)
                elif result.reason:
                    self.note(f"{root.name}: {result.id}: {result.reason}")
        return self._count(CohortResults(root), saliency)

    def _count(self, results: CohortResults, saliency: SmoothGradSettings) -> CohortResults:
        """Counts the maps that are used, and those of them that are approximated."""
        for scan in results.scans():
            hows = [saliency.approximation(row["voxels"]) for row in scan.rows]
            self.counted["all"] += len(hows)
            self.counted["approximated"] += sum(how != EXACT for how in hows)
        return results

    @property
    def footnote(self) -> str:
        """What a figure says of approximated maps; empty if all that are used are exact."""
        some = self.counted["approximated"]
        if not some:
            return ""
        few, group = self.saliency.voxels_per_lesion, self.saliency.group_size
        how = f"{few} voxels of each differentiated" if few else f"by sums of {group} voxels"
        return f"approximated: {some:,} of {self.counted['all']:,} maps, {how}"

    def _tell_approximation(self, saliency: SmoothGradSettings) -> None:
        few, group = saliency.voxels_per_lesion, saliency.group_size
        if saliency.aggregate == "max" and (few is not None or group != 1):
            how = f"of {few} voxels of each" if few else f"of sums over {group} voxels each"
            self.note(
                f"the signed maximum over a lesion is approximated: it is that {how}, so peaks are "
                "not those of Eq. 3, and depend on size in another way"
            )

    def _leave_out(self, where: str, scan: str, reason: str) -> None:
        self.left_out.add(scan)
        self.note(f"{where}: {scan} is left out: {reason}")

    def note(self, text: str) -> None:
        """Keeps a sentence for the reader of the findings, once."""
        text = " ".join(text.split())
        if text not in self.notes:
            self.notes.append(text)
            self.monitor.say(text)

    def derive(
        self, name: str, entry: Entry, grid: Grid, derived: Sequence[Derived]
    ) -> list[Entry]:
        """Writes scans made from one of the cohort's, for a `run` over them.

        Args:
            name: of the run.
            entry: the scan that they were made from.
            grid: of its images.
            derived: what was made.

        Returns:
            The scans; those without any domain are left out.
        """
        folder = self.out / "scans" / name
        made = []
        for scan in derived:
            if not scan.labels.any():
                continue
            entities = dict(entry.entities)
            if scan.tag:
                entities["acquisition"] = entities.get("acquisition", "") + scan.tag
            stem = Entry("", entry.scan, entities).stem
            folder.mkdir(parents=True, exist_ok=True)
            instances = folder / f"{stem}_dseg.nii.gz"
            write_volume(instances, scan.labels.astype(np.int32), grid)
            images, mask = entry.scan.images, entry.scan.mask
            if scan.brain is not None:
                mask = folder / f"{stem}_mask.nii.gz"
                write_volume(mask, scan.brain, grid)
            if scan.images is not None:
                images = tuple(folder / f"{stem}_{c}.nii.gz" for c in self.model.channels)
                for path, image in zip(images, scan.images, strict=True):
                    write_volume(path, np.asarray(image, np.float32), grid)
            name_of_scan = f"{entry.id} {scan.tag}".rstrip()
            made.append(Entry(name_of_scan, Scan(images, instances=instances, mask=mask), entities))
        return list(distinct(made)) if made else []

    def each_scan(
        self,
        name: str,
        settings: Mapping[str, Any],
        compute: Callable[[Entry, Prediction], list[Row]],
        files: Callable[[Entry], Mapping[str, Path]] = lambda entry: {},
    ) -> Iterator[tuple[Entry, list[Row]]]:
        """Rows of each scan; those of scans that were done before are not computed again.

        Args:
            name: of the experiment.
            settings: what the rows depend on besides model, prediction and scan; for JSON.
            compute: makes the rows of a scan, ready for JSON.
            files: what else a scan's rows are made from, which may not be there.

        Yields:
            Each scan with its rows. One that cannot be worked with is noted.
        """
        self.monitor.stage(name)
        identity = {key: self.facts[key] for key in ("jaxsal", "model", "prediction")}
        kept = KeptRows(
            self.out / ".jaxsal" / name,
            self.model.channels,
            {**identity, "settings": dict(settings)},
            files,
        )
        found = {entry.stem: kept.made(entry) for entry in self.entries}
        for entry in self.entries:
            earlier = found[entry.stem]
            self._pass_on(entry, earlier.notes if earlier else ())

        def work(entry: Entry, loaded: LoadedScan) -> Made:
            prediction = find_lesions(self.model, loaded, self.prediction)
            notes = notes_of(self.model, prediction)
            self._pass_on(entry, notes)
            made = Made(compute(entry, prediction), notes)
            kept.keep(entry, made)
            return made

        todo = [entry for entry in self.entries if found[entry.stem] is None]
        for done, (entry, made, reason) in enumerate(
            one_by_one(todo, self.model, work), start=len(self.entries) - len(todo) + 1
        ):
            found[entry.stem] = made
            self.monitor.count(done, len(self.entries), "scans")
            if reason:
                self._leave_out(name, entry.id, reason)
        for entry in self.entries:
            result = found[entry.stem]
            if result is not None:
                yield entry, result.rows

    def _pass_on(self, entry: Entry, notes: Sequence[str]) -> None:
        for note in notes:
            self.note(f"{entry.id}: {note}")


@contextmanager
def _without_overwriting() -> Iterator[None]:
    """Experiments remove no earlier results, so nobody is to be told to have them removed."""
    try:
        yield
    except OtherResultsError as error:
        advice = "Go on with what it was begun with, or give another folder for the results (--out)"
        raise OtherResultsError(error.difference, advice) from error


def _kept(root: Path) -> dict[str, Any]:
    """What a run that began a folder keeps of its maps, and in which portions."""
    try:
        return dict(CohortFolder(root).told()["identity"]["settings"])
    except (InputError, KeyError):
        return {}
