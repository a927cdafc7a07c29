"""What every scan of a run is put through: lesions found, then explained in portions."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Protocol

from jaxsal import __version__
from jaxsal.cohort.columns import lesion_columns
from jaxsal.cohort.outline import Method, Outline
from jaxsal.devices import current_device
from jaxsal.errors import InputError
from jaxsal.inputs.entries import repeated
from jaxsal.inputs.scan import LoadedScan
from jaxsal.lesions import Instance
from jaxsal.model import Model
from jaxsal.progress import OnProgress, Progress
from jaxsal.saliency.maps import Crop
from jaxsal.saliency.methods.appearance import Appearance
from jaxsal.scan.explanations import Explanations, to_explain
from jaxsal.scan.methods import appearance, cost_of, in_effect
from jaxsal.scan.notes import notes_of
from jaxsal.scan.portions import maps_of, together
from jaxsal.scan.prediction import Prediction, completed, find_lesions
from jaxsal.scan.provenance import model_facts, software
from jaxsal.settings import CohortSettings, ExplainSettings, PredictSettings
from jaxsal.store.bids_names import camel_case


@dataclass(frozen=True)
class Portion:
    """Lesions of a scan whose maps are computed and recorded together.

    Attributes:
        number: its place among the scan's portions.
        method: which of the methods.
        labels: of the lesions.
    """

    number: int
    method: int
    labels: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Job:
    """What every scan of a run is put through.

    Attributes:
        model: the network.
        prediction: how lesions are found.
        settings: how they are explained.
        ran: device and software; those of the thread that makes the job.

    Raises:
        InputError: maps of two channels would have the same names.
    """

    model: Model
    prediction: PredictSettings
    settings: CohortSettings
    ran: Mapping[str, Any] = field(
        default_factory=lambda: {"device": current_device().device_kind, **software()}
    )

    def __post_init__(self) -> None:
        if self.settings.output == "table":
            return
        files = [file for shown in self.shown for file in shown.files]
        for first, other in repeated(map(camel_case, files)):
            raise InputError(
                "names of files are made of letters and digits only, so that maps of "
                f"{files[first]!r} and {files[other]!r} would share theirs: give the channels of "
                "the model names that differ in letters A-Z or digits"
            )

    @cached_property
    def methods(self) -> tuple[ExplainSettings, ...]:
        """The settings of each method as they take effect."""
        return tuple(
            in_effect(method, self.prediction, self.model) for method in self.settings.methods
        )

    @cached_property
    def shown(self) -> tuple[Appearance, ...]:
        """How each method's maps appear."""
        return tuple(appearance(method, self.model.channels) for method in self.methods)

    @cached_property
    def outline(self) -> Outline:
        """What a report has to know of it."""
        methods = tuple(
            Method(method.name, s.maps, s.files, s.units, s.scale, s.subtitle)
            for method, s in zip(self.methods, self.shown, strict=True)
        )
        return Outline(tuple(lesion_columns(self.shown)), methods)

    @property
    def memory(self) -> int | None:
        """Budget of computing maps, in bytes."""
        return self.settings.saliency[0].memory

    @cached_property
    def identity(self) -> dict[str, Any]:
        """All that results depend on but the scans, ready for JSON."""
        settings = {**asdict(self.settings), "saliency": {}}
        for method in self.methods:
            saliency = asdict(method.saliency)
            del saliency["memory"]  # on which results depend by rounding only
            settings["saliency"][method.name] = saliency
        return {
            "jaxsal": __version__,
            "precision": self.model.precision,
            "model": model_facts(self.model),
            "prediction": asdict(completed(self.prediction, self.model)),
            "settings": settings,
        }


class Clock:
    """Adds up the seconds of the blocks that it is the context of."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __enter__(self) -> None:
        self._began = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.seconds += time.perf_counter() - self._began


class Keeper(Protocol):
    """Where the results of a scan go, and what an earlier run left of them."""

    def restored(self, loaded: LoadedScan) -> Prediction | None:
        """The scan's lesions, if they were found before."""
        ...

    def keep_prediction(self, prediction: Prediction) -> None:
        """Keeps the scan's lesions."""
        ...

    def has(self, portion: Portion) -> bool:
        """Whether a portion was kept before."""
        ...

    def keep_map(self, portion: Portion, label: int, crop: Crop) -> None:
        """Keeps a lesion's map."""
        ...

    def finish_portion(self, portion: Portion, seconds: float) -> None:
        """All maps of a portion were handed over, and took so long to compute."""
        ...


def explain_scan(
    job: Job,
    loaded: LoadedScan,
    keeper: Keeper,
    clock: Clock,
    on_progress: OnProgress = lambda progress: None,
) -> None:
    """Finds and explains a scan's lesions; what is kept already is not computed again.

    Args:
        job: what to do.
        loaded: the scan.
        keeper: where results go.
        clock: measures the time of computing alone.
        on_progress: told how far the scan is; what it raises ends the work on the scan.

    Raises:
        InputError: the scan does not fit the model or the settings.
    """
    prediction = keeper.restored(loaded)
    if prediction is None:
        with clock:
            prediction = find_lesions(job.model, loaded, job.prediction)
        keeper.keep_prediction(prediction)
    wanted = to_explain(prediction, job.methods[0])
    progress = _ScanProgress(wanted, job, on_progress)
    for portion in portions(job, prediction.instances, wanted):
        progress.begin(portion)
        if not keeper.has(portion):
            before = clock.seconds
            for label, crop in _timed(_maps(job, prediction, wanted, portion, progress), clock):
                keeper.keep_map(portion, label, crop)
            keeper.finish_portion(portion, clock.seconds - before)


def noted(job: Job, prediction: Prediction) -> str:
    """What is to be known of a scan beside its results; empty if there is nothing."""
    others = to_explain(prediction, job.methods[0]).notes
    return "; ".join([*notes_of(job.model, prediction), *others])


def portions(job: Job, instances: Sequence[Instance], wanted: Explanations) -> Iterator[Portion]:
    """What is computed together: always the same of the same lesions, so that results are."""
    voxels = {i.label: i.voxels for i in instances if i.label in wanted.maps}
    number = 0
    for index, method in enumerate(job.methods):
        most = None if cost_of(method) is None else job.settings.portion
        for labels in together(voxels, most):
            yield Portion(number, index, labels)
            number += 1


def _maps(
    job: Job,
    prediction: Prediction,
    wanted: Explanations,
    portion: Portion,
    on_progress: OnProgress,
) -> Iterator[tuple[int, Crop]]:
    part = wanted.part(portion.labels)
    method = job.methods[portion.method]
    yield from maps_of(job.model, prediction, part, job.prediction, method, on_progress)


def _timed(maps: Iterator[tuple[int, Crop]], clock: Clock) -> Iterator[tuple[int, Crop]]:
    """The maps, of which only the computing is timed, not what becomes of them."""
    while True:
        with clock:
            found = next(maps, None)
        if found is None:
            return
        yield found


class _ScanProgress:
    """Makes the progress of portions that of the scan, in maps done of maps wanted."""

    def __init__(self, wanted: Explanations, job: Job, tell: OnProgress) -> None:
        self._all = len(wanted.maps) * len(job.methods)
        self._tell, self._before, self._current = tell, 0, 0

    def begin(self, portion: Portion) -> None:
        self._before += self._current
        self._current = len(portion.labels)
        self(Progress(0, self._current, 0, 0))

    def __call__(self, progress: Progress) -> None:
        share = progress.gradients_done / max(progress.gradients, 1)
        self._tell(
            Progress(
                self._before + int(share * self._current),
                self._all,
                progress.gradients_done,
                progress.gradients,
            )
        )
