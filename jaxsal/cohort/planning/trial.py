"""A trial: one scan of a cohort read, predicted, explained in part and written, all of it timed."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from jaxsal.cohort.job import CohortJob
from jaxsal.cohort.parts import AtOnce, Portion
from jaxsal.cohort.planning.counting import Sizes, component_sizes, spread_over, units_of
from jaxsal.cohort.storage.folder import CohortFolder
from jaxsal.cohort.storage.keepers import FolderKeeper
from jaxsal.cohort.storage.names import Names
from jaxsal.compilation import compiling_seconds
from jaxsal.errors import InputError
from jaxsal.inputs.entries import Entry
from jaxsal.inputs.images import LoadedScan, warn_of
from jaxsal.lesions import instances_of
from jaxsal.progress import OnProgress, Progress
from jaxsal.registry import METHODS
from jaxsal.saliency.maps import Crop
from jaxsal.scan.amount import Known, Pace
from jaxsal.scan.calibration import LESION_VOXELS, synthetic_scan
from jaxsal.scan.explanations import Explanations, to_explain
from jaxsal.scan.notes import notes_of
from jaxsal.scan.portions import maps_of
from jaxsal.scan.prediction import Prediction, find_lesions
from jaxsal.settings import OUTPUTS, ExplainSettings
from jaxsal.store.records import Inputs
from jaxsal.types import Triple

T = TypeVar("T")
_CALLS = 3  # at most, until next to nothing is compiled any more
_NEGLIGIBLE = 0.02  # of a call's time
_WRITTEN = 3  # maps


@dataclass(frozen=True)
class Written:
    """What results take on disk, and the seconds that writing them takes.

    Attributes:
        size: bytes.
        files: their number.
        seconds: that writing takes.
    """

    size: float
    files: float
    seconds: float

    def __sub__(self, other: Written) -> Written:
        seconds = max(self.seconds - other.seconds, 0.0)
        return Written(self.size - other.size, self.files - other.files, seconds)

    def shared(self, count: int) -> Written:
        """One of so many equal parts."""
        return Written(self.size / count, self.files / count, self.seconds / count)


@dataclass(frozen=True)
class Trial:
    """The measurements of a trial.

    Attributes:
        shape: the scan's grid (X, Y, Z).
        found: voxels of each of its lesions to explain, on the network's grid.
        beside: those of its reference mask.
        reading: seconds that its files took.
        prediction: seconds that finding its lesions took.
        compiling: seconds that compiling took, and is not in any other.
        rates: seconds of each method, per unit of its work; see `units_of`.
        voxels: of the largest map.
        lesions: results of a lesion, by output level.
        scans: those of a scan without its lesions, likewise.
    """

    shape: Triple
    found: Sizes
    beside: Sizes
    reading: float
    prediction: float
    compiling: float
    rates: tuple[float, ...]
    voxels: int
    lesions: Mapping[str, Written]
    scans: Mapping[str, Written]


def try_scan(
    job: CohortJob,
    entry: Entry,
    least_seconds: float,
    on_prediction: Callable[[float], None] = lambda seconds: None,
) -> Trial:
    """Does with a scan what a run does, but of each method only a part.

    Args:
        job: of the run; it computes on the default devices.
        entry: the scan.
        least_seconds: how long the part of a method takes at least, if there is as much.
        on_prediction: called with the seconds that reading the scan and finding its lesions took.

    Raises:
        InputError: the scan or a setting cannot be used.
    """
    began = time.perf_counter()
    inputs, loaded = job.load(entry)
    if isinstance(loaded, Exception):
        raise loaded
    reading = time.perf_counter() - began
    prediction, seconds, compiling = _predicted(job, loaded)
    on_prediction(time.perf_counter() - began - compiling)
    warn_of(notes_of(job.model, prediction))
    wanted = to_explain(prediction, job.methods[0])
    found = tuple(about.voxels for about in wanted.maps.values())
    if not found:
        prediction = with_synthetic_lesions(prediction)
        wanted = to_explain(prediction, job.methods[0])
    some = spread_over(_fullest(job, prediction, wanted, 0).labels, _WRITTEN)
    tried = [
        _tried(job, prediction, wanted, index, least_seconds, some)
        for index in range(len(job.methods))
    ]
    rates, compilings, crops = zip(*tried, strict=True)
    beside: Sizes = ()
    if loaded.reference is not None:
        volume, least = prediction.grid.voxel_volume, job.prediction.minimum_volume
        beside = component_sizes(loaded.reference, volume, least)
    levels = _levels(job)
    scans = {level: _write(job, entry, inputs, prediction, level, ()) for level in levels}
    whole = {level: _write(job, entry, inputs, prediction, level, crops) for level in levels}
    return Trial(
        prediction.grid.shape,
        found,
        beside,
        reading,
        seconds,
        compiling + sum(compilings),
        rates,
        max(math.prod(crop.values.shape[:3]) for maps in crops for crop in maps.values()),
        {level: (whole[level] - scans[level]).shared(len(some)) for level in levels},
        scans,
    )


def _predicted(job: CohortJob, loaded: LoadedScan) -> tuple[Prediction, float, float]:
    """The scan with its lesions, the seconds of finding them, and those of compiling."""
    made: dict[str, Prediction] = {}

    def find(_: OnProgress) -> None:
        made["prediction"] = find_lesions(job.model, loaded, job.prediction)

    seconds, compiling = timed(find)
    return made["prediction"], seconds, compiling


def with_synthetic_lesions(prediction: Prediction) -> Prediction:
    """A scan without lesions with made-up ones, for something to measure."""
    grid = prediction.grid
    for sizes in ((LESION_VOXELS,) * 2, (1,)):
        try:
            _, labels = synthetic_scan(grid.shape, 1, sizes)
        except InputError:  # no room
            continue
        return replace(prediction, labels=labels, instances=instances_of(labels, grid))
    raise InputError(f"a scan of {grid.shape} voxels is too small to be explained")


def _tried(
    job: CohortJob,
    prediction: Prediction,
    wanted: Explanations,
    index: int,
    least_seconds: float,
    written: Sequence[int],
) -> tuple[float, float, dict[int, Crop]]:
    """Seconds per unit of a method's work, those of compiling, and the maps of some labels."""
    method, labels = job.methods[index], _fullest(job, prediction, wanted, index).labels
    voxels = {label: about.voxels for label, about in wanted.maps.items()}
    kept: dict[int, Crop] = {}

    def compute(settings: ExplainSettings, labels: Sequence[int], look: OnProgress | None) -> None:
        part = wanted.part(labels)
        maps = maps_of(job.model, prediction, part, job.prediction, settings, look)
        kept.update((label, crop) for label, crop in maps if label in written)

    seconds, compiling = timed(lambda look: compute(method, labels, look), least_seconds)
    if missing := [label for label in written if label not in kept]:  # it was left off
        quick = METHODS[method.method].quick(method.saliency)
        compute(replace(method, saliency=quick), missing, None)
    return seconds / sum(units_of(method, voxels[label]) for label in labels), compiling, kept


def _fullest(job: CohortJob, prediction: Prediction, wanted: Explanations, index: int) -> Portion:
    """The portion of a method that comes closest to a full one."""
    voxels = {label: about.voxels for label, about in wanted.maps.items()}

    def lack(portion: Portion) -> int:
        return abs(sum(voxels[label] for label in portion.labels) - job.settings.portion)

    every = job.portions(wanted)
    return min((portion for portion in every if portion.method == index), key=lack)


def timed(
    compute: Callable[[OnProgress], object],
    least_seconds: float = 0.0,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[float, float]:
    """Seconds of a computation without compiling, from its first batches, and those of compiling.

    Compiling brings work that is not measured as such. Where no batch is free of it, a call that
    compiles more than a small part of its time is therefore repeated.

    Args:
        compute: takes the time; it reports its progress to its argument, which may end it.
        least_seconds: as in `jaxsal.scan.amount.Pace`.
        clock: seconds now.
    """
    last, durations = Progress(0, 0, 0, 0), compiling_seconds()
    spent, calls = 0.0, 0
    while True:
        pace, began, known = Pace(least_seconds, clock), clock(), len(durations)

        def look(progress: Progress, pace: Pace = pace) -> None:
            nonlocal last
            last = progress
            if pace(progress) is not None and progress.gradients_done < progress.gradients:
                raise Known

        with suppress(Known):
            compute(look)
        seconds, compiled = clock() - began, sum(durations[known:])
        spent, calls = spent + seconds, calls + 1
        whole, done = map(pace.seconds_of, (last.gradients, last.gradients_done))
        if whole is not None and done is not None:
            return whole, max(spent - done, 0.0)
        if compiled <= _NEGLIGIBLE * seconds or calls == _CALLS:
            break
    seconds -= min(compiled, seconds / 2)
    return seconds, max(spent - calls * seconds, 0.0)


def _levels(job: CohortJob) -> tuple[str, ...]:
    """The output levels that a run with these channels can have."""
    with suppress(InputError):  # names of maps would be the same
        replace(job, settings=replace(job.settings, output="full"))
        return OUTPUTS
    return ("table",)


def _write(
    job: CohortJob,
    entry: Entry,
    inputs: Inputs,
    prediction: Prediction,
    level: str,
    maps: Sequence[Mapping[int, Crop]],
) -> Written:
    """Writes the results of a scan with these maps of each method, as a run does."""
    job = replace(job, settings=replace(job.settings, output=level))
    with tempfile.TemporaryDirectory() as folder:
        began, root = time.perf_counter(), Path(folder)
        cohort = CohortFolder(root)
        cohort.record_path(entry.stem).parent.mkdir(parents=True)
        keeper = FolderKeeper(job, entry, inputs, cohort, AtOnce())
        keeper.keep_prediction(prediction)
        for number, found in enumerate(maps):
            portion = Portion(number, number, tuple(found))
            for label, crop in found.items():
                keeper.keep_map(portion, label, crop)
            keeper.finish_portion(portion, 1.0)
        keeper.finish(1.0)
        seconds = time.perf_counter() - began
        sizes = [path.stat().st_size for path in root.rglob("*") if path.is_file()]
        again = (root / Names(entry.stem).table).stat().st_size  # in the cohort's tables
        return Written(sum(sizes) + again, len(sizes), seconds)
