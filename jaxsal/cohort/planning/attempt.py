"""One method tried on some lesions of a scan: how long it takes, and how large its maps are."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from jaxsal.cohort.columns import map_row
from jaxsal.cohort.job import CohortJob
from jaxsal.cohort.parts import Portion
from jaxsal.compilation import compiling_seconds
from jaxsal.devices import default_devices
from jaxsal.progress import Progress
from jaxsal.registry import METHODS
from jaxsal.saliency.maps import Crop
from jaxsal.saliency.methods.method import Cost
from jaxsal.scan.explanations import Explanations
from jaxsal.scan.map_files import parts_of, write_maps
from jaxsal.scan.methods import cost_of
from jaxsal.scan.portions import maps_of
from jaxsal.scan.prediction import Prediction
from jaxsal.settings import ExplainSettings
from jaxsal.store.files import file_checksum
from jaxsal.tables import Row

T = TypeVar("T")
_CALLS = 3  # at most, until next to nothing is compiled any more
_NEGLIGIBLE = 0.02  # of a call's time
_GROWTH = 16  # of the noisy images, at most, from one try to the next
_WRITTEN = 3  # maps


@dataclass(frozen=True)
class Explained:
    """How long some lesions took one method, and how large their maps are.

    Attributes:
        units: see `units_of`.
        seconds: that they took.
        voxels: mean number of voxels of a cropped map.
        files: of a lesion.
        written: mean bytes of a lesion's files by output level.
        writing: seconds that a lesion's statistics and files took, at the job's level.
    """

    units: float
    seconds: float
    voxels: float
    files: int
    written: Mapping[str, float]
    writing: float


def units_of(method: ExplainSettings, voxels: int) -> float:
    """What a lesion's time goes by: its gradients; the lesion where these are not known."""
    cost = cost_of(method)
    return 1 if cost is None else cost.images * cost.gradients(voxels)


def settled(compute: Callable[[], T]) -> tuple[T, float, float]:
    """A result, the seconds of a call without compiling, and what compiling took before.

    What a call compiles is seen, but not all that comes with it: a call of which this is more than
    a small part is made again.
    """
    durations, calls = compiling_seconds(), 0
    whole = time.perf_counter()
    while True:
        known, began = len(durations), time.perf_counter()
        result = compute()
        seconds, calls = time.perf_counter() - began, calls + 1
        compiled = sum(durations[known:])
        if compiled <= _NEGLIGIBLE * seconds or calls == _CALLS:
            seconds -= min(compiled, seconds / 2)
            compiling = time.perf_counter() - whole - calls * seconds
            return result, seconds, max(compiling, 0.0)


class _Enough(Exception):  # noqa: N818
    """It took long enough to tell how long all of it takes."""


@dataclass
class Attempt:
    """One method on lesions of one scan.

    Attributes:
        job: what a run does.
        prediction: the scan with its lesions.
        wanted: what a run explains of it.
        index: which of the job's methods.
        most: how many voxels to explain at once, about; None: as many as a run does.
        compiling: seconds that compiling took.
        row: what a map contributes to its lesion's row.
    """

    job: CohortJob
    prediction: Prediction
    wanted: Explanations
    index: int
    most: int | None = None
    compiling: float = 0.0
    row: Row = field(default_factory=dict)
    _kept: dict[int, Crop] = field(default_factory=dict)
    _sizes: list[int] = field(default_factory=list)

    def measured(self, least_seconds: float) -> Explained:
        """Computes about as much as takes so long, if there is as much, and writes some maps."""
        method = self._method()
        labels = self._portion().labels
        cost = cost_of(method)
        if cost is None:
            share, seconds = self._left_off(method, labels, least_seconds)
        else:
            share, seconds = self._part_of_images(method, cost, labels, least_seconds)
        voxels = {i.label: i.voxels for i in self.prediction.instances}
        units = share * sum(units_of(method, voxels[label]) for label in labels)
        size = float(np.mean(self._sizes))
        files, written, writing = self._write(size)
        return Explained(units, seconds, size, files, written, writing)

    def _method(self) -> ExplainSettings:
        """The job's method, of large lesions with no more voxels than are wanted."""
        method = self.job.methods[self.index]
        cost = cost_of(method)
        if self.most is None or cost is None:
            return method
        return replace(method, saliency=cost.on_voxels(self.most))

    def _portion(self) -> Portion:
        """Of the scan's portions the one that comes closest to a full one."""
        voxels = {i.label: i.voxels for i in self.prediction.instances}
        most = self.job.settings.portion if self.most is None else self.most
        job = replace(self.job, settings=replace(self.job.settings, portion=most))

        def lack(portion: Portion) -> int:
            return abs(sum(voxels[label] for label in portion.labels) - most)

        every = job.portions(self.prediction.instances, self.wanted)
        return min((p for p in every if p.method == self.index), key=lack)

    def _part_of_images(
        self,
        method: ExplainSettings,
        cost: Cost[Any],
        labels: Sequence[int],
        least_seconds: float,
    ) -> tuple[float, float]:
        """Which part of the noisy images was computed, and how long it took."""
        images = min(cost.images, max(2, len(default_devices())))
        while True:
            part = replace(method, saliency=cost.on_images(images))
            _, seconds, compiling = settled(partial(self._compute, part, labels))
            self.compiling += compiling
            if seconds >= least_seconds or images == cost.images:
                return images / cost.images, seconds
            wanted = math.ceil(1.2 * images * least_seconds / max(seconds, 1e-3))
            images = min(cost.images, wanted, _GROWTH * images)

    def _left_off(
        self, method: ExplainSettings, labels: Sequence[int], least_seconds: float
    ) -> tuple[float, float]:
        """Which part of the work on a scan's maps was done, and how long it took."""

        def compute() -> float:
            began, share = time.perf_counter(), 1.0

            def look(progress: Progress) -> None:
                nonlocal share
                share = progress.gradients_done / max(progress.gradients, 1)
                if time.perf_counter() - began > least_seconds and share < 1:
                    raise _Enough

            try:
                self._compute(method, labels, look)
            except _Enough:
                return share
            return 1.0

        share, seconds, compiling = settled(compute)
        self.compiling += compiling
        if not self._kept:  # maps of the same places, by the quickest way
            quick = METHODS[method.method].quick(method.saliency)
            self._compute(replace(method, saliency=quick), labels[:_WRITTEN])
        return share, seconds

    def _compute(
        self,
        method: ExplainSettings,
        labels: Sequence[int],
        on_progress: Callable[[Progress], None] | None = None,
    ) -> None:
        """Computes maps; keeps some of them, and the sizes of all."""
        self._kept, self._sizes = {}, []
        job, scan, wanted = self.job, self.prediction, self.wanted
        part = wanted.part(labels)
        for label, crop in maps_of(job.model, scan, part, job.prediction, method, on_progress):
            if len(self._kept) < _WRITTEN:
                self._kept[label] = crop
            self._sizes.append(math.prod(crop.values.shape[:3]))

    def _write(self, size: float) -> tuple[int, dict[str, float], float]:
        """Number of a lesion's files; their mean bytes by level; seconds at the job's level."""
        output, seconds = self.job.settings.output, 0.0
        written = {"table": 0.0, "cropped": 0.0, "full": 0.0}
        for label, crop in self._kept.items():
            seconds += self._statistics(label, crop)
            for level in ("cropped", "full"):
                sizes, took = self._files(label, crop, level)
                written[level] += sum(sizes)
                seconds += took if level == output else 0.0
        count = len(self._kept)
        voxels = sum(math.prod(crop.values.shape[:3]) for crop in self._kept.values())
        growth = size * count / voxels  # the scan's maps to those written
        empty = written["full"] - written["cropped"]  # what the zeros around a map take
        written["cropped"] *= growth
        written["full"] = written["cropped"] + empty
        return (
            len(sizes),
            {level: number / count for level, number in written.items()},
            seconds / count * (1 if output == "full" else growth),
        )

    def _statistics(self, label: int, crop: Crop) -> float:
        began, scan = time.perf_counter(), self.prediction
        shown = self.job.shown[self.index]
        self.row = map_row(shown, crop, scan.labels == label, scan.scan.grid.spacing)
        return time.perf_counter() - began

    def _files(self, label: int, crop: Crop, level: str) -> tuple[list[int], float]:
        """Bytes of each file of a map, and the seconds that they took."""
        names, grid = self.job.shown[self.index].files, self.prediction.scan.grid
        with tempfile.TemporaryDirectory() as folder:
            began = time.perf_counter()
            paths: list[Path] = []
            for ending, part in parts_of(crop):
                new = [Path(folder, f"{file}{ending}.nii.gz") for file in names]
                write_maps(new, grid, part, full_grid=level == "full")
                paths += new
            for path in paths:
                file_checksum(path)
            return [path.stat().st_size for path in paths], time.perf_counter() - began
