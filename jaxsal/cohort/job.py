"""The job of a run: what is done with every scan. Lesions are found, then explained in portions."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from jaxsal.cohort.columns import MethodOutline, Outline, lesion_columns
from jaxsal.cohort.parts import Clock, Portion
from jaxsal.current_device import current_device
from jaxsal.errors import InputError, OutputError
from jaxsal.inputs.entries import Entry, repeated
from jaxsal.inputs.images import LoadedScan, load_scan
from jaxsal.model import Model
from jaxsal.progress import InParts, OnProgress, Progress, by_share
from jaxsal.saliency.maps import Crop
from jaxsal.saliency.memory_plan import together
from jaxsal.saliency.methods.appearance import Appearance
from jaxsal.scan.explanations import Explanations, to_explain
from jaxsal.scan.members import require_members
from jaxsal.scan.methods import appearance, in_effect, most_together
from jaxsal.scan.notes import notes_of
from jaxsal.scan.portions import maps_of
from jaxsal.scan.prediction import Prediction, completed
from jaxsal.scan.provenance import identity_of, without_memory
from jaxsal.scan.uncertain_lesions import find_uncertain_lesions
from jaxsal.settings import CohortSettings, ExplainSettings, PredictSettings
from jaxsal.store.bids_dataset import camel_case
from jaxsal.store.file_list import Files
from jaxsal.store.records import Inputs, ScanRecord, stamps
from jaxsal.tables import Column, Row
from jaxsal.versions import software

if TYPE_CHECKING:
    from jaxsal.cohort.storage.keepers import Keeper

Loaded = tuple[Inputs, LoadedScan | Exception]


@dataclass(frozen=True, eq=False)
class CohortJob:
    """What is done with every scan of a run.

    Attributes:
        model: the network.
        prediction: how lesions are found.
        settings: how they are explained.
        ran: device and software; by default those of the thread that makes the job.

    Raises:
        InputError: maps of two channels would have the same names, or the network has no members
            as the uncertainty is to be found by.
    """

    model: Model
    prediction: PredictSettings
    settings: CohortSettings
    ran: Mapping[str, Any] = field(
        default_factory=lambda: {"device": current_device().device_kind, **software()}
    )

    def __post_init__(self) -> None:
        require_members(self.model, self.prediction, self.settings.uncertainty)
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

    def columns(self, *, parcelled: bool = False) -> list[Column]:
        """Of the table over all lesions; with parcellations, those of regions, too."""
        uncertain = self.settings.uncertainty is not None
        return lesion_columns(self.shown, uncertain=uncertain, parcelled=parcelled)

    def outline(self, *, parcelled: bool = False) -> Outline:
        """The columns and methods, for reports; as `columns`."""
        methods = tuple(
            MethodOutline(method.name, s.maps, s.files, s.units, s.scale, s.subtitle)
            for method, s in zip(self.methods, self.shown, strict=True)
        )
        return Outline(tuple(self.columns(parcelled=parcelled)), methods)

    @property
    def memory(self) -> int | None:
        """Budget of computing maps, in bytes."""
        return self.settings.saliency[0].memory

    @cached_property
    def identity(self) -> dict[str, Any]:
        """All that results depend on except the scans, ready for JSON."""
        saliency = {method.name: without_memory(method.saliency) for method in self.methods}
        settings = {**asdict(self.settings), "saliency": saliency}
        return identity_of(self.model, completed(self.prediction, self.model), settings)

    def load(self, entry: Entry) -> Loaded:
        """A scan's files as they are, and their contents; or why it is a bad scan, an error."""
        inputs = stamps(entry.scan, self.model.channels)
        try:
            return inputs, load_scan(entry.scan, self.model.channels, self.model.preprocessing)
        except OSError as error:
            return inputs, InputError(f"the scan's files cannot be read: {error}")
        except Exception as error:
            return inputs, error

    def explain(
        self,
        loaded: LoadedScan,
        keeper: Keeper,
        clock: Clock,
        on_progress: OnProgress = lambda progress: None,
    ) -> None:
        """Finds and explains a scan's lesions; what is kept already is not computed again.

        Args:
            loaded: the scan.
            keeper: takes the results.
            clock: measures the time of computing alone.
            on_progress: called with how far the scan is, in maps done of all maps; what it raises
                ends the work on the scan.

        Raises:
            InputError: the scan does not fit the model or the settings.
        """
        prediction = keeper.restored(loaded)
        if prediction is None:
            with clock:
                prediction = find_uncertain_lesions(
                    self.model, loaded, self.prediction, self.settings.uncertainty
                )
            keeper.keep_prediction(prediction)
        wanted = to_explain(prediction, self.methods[0])
        whole = InParts(len(wanted.maps) * len(self.methods), 0, on_progress)
        for portion in self.portions(wanted):
            whole.begin()
            if keeper.take_over(portion):
                whole(Progress(len(portion.labels), len(portion.labels), 0, 0))
            else:
                before, progress = clock.seconds, by_share(len(portion.labels), whole)
                progress(Progress(0, 0, 0, 0))  # may end the work
                part, method = wanted.part(portion.labels), self.methods[portion.method]
                maps = maps_of(self.model, prediction, part, self.prediction, method, progress)
                for label, crop in _timed(maps, clock):
                    keeper.keep_map(portion, label, crop)
                keeper.finish_portion(portion, clock.seconds - before)

    def portions(self, wanted: Explanations) -> Iterator[Portion]:
        """The lesions that are computed together: always the same ones, so that results are."""
        voxels = {label: about.voxels for label, about in wanted.maps.items()}
        number = 0
        for index, method in enumerate(self.methods):
            for labels in together(voxels, most_together(method, self.settings.portion)):
                yield Portion(number, index, labels)
                number += 1

    def success(
        self,
        entry: Entry,
        inputs: Inputs,
        prediction: Prediction,
        rows: list[Row],
        seconds: float,
        files: Files | None = None,
    ) -> ScanRecord:
        """The record of a finished scan, with its warnings."""
        others = to_explain(prediction, self.methods[0]).notes
        return ScanRecord(
            entry.id,
            entry.stem,
            "finished",
            inputs,
            reason="; ".join([*notes_of(self.model, prediction), *others]),
            rows=rows,
            files=dict(files or {}),
            seconds=seconds,
            ran=dict(self.ran),
        )

    def failure(self, entry: Entry, inputs: Inputs, error: BaseException) -> ScanRecord:
        """The record of a bad scan.

        Raises:
            OSError, OutputError: the error itself, if results cannot be written; no scan is bad.
        """
        if isinstance(error, OSError | OutputError):
            raise error
        if isinstance(error, InputError):
            reason, ran = str(error), dict(self.ran)
        else:
            reason = f"{type(error).__name__}: {error}"
            ran = {**self.ran, "traceback": "".join(traceback.format_exception(error))}
        return ScanRecord(entry.id, entry.stem, "failed", inputs, reason=reason, ran=ran)


def _timed(maps: Iterator[tuple[int, Crop]], clock: Clock) -> Iterator[tuple[int, Crop]]:
    """The maps; only computing them is timed, not what is done with them."""
    while True:
        with clock:
            found = next(maps, None)
        if found is None:
            return
        yield found
