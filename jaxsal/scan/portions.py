"""A scan's maps portion by portion: always the same lesions together, so that results are the same.

What is computed together shares linearisations and batches, on which results depend by rounding.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from jaxsal.field.plan import LogitField
from jaxsal.model import Model
from jaxsal.progress import OnProgress
from jaxsal.registry import METHODS
from jaxsal.saliency.infill import Scene
from jaxsal.saliency.maps import Crop
from jaxsal.saliency.memory_plan import together
from jaxsal.saliency.methods.appearance import Appearance
from jaxsal.scan.explanations import Explanations
from jaxsal.scan.lesion_table import UNCERTAINTY_COLUMNS
from jaxsal.scan.methods import cost_of, most_together
from jaxsal.scan.prediction import Prediction, as_run, make_field
from jaxsal.scan.region_table import REGIONS, are_regions
from jaxsal.settings import ExplainSettings, PredictSettings
from jaxsal.tables import Row

if TYPE_CHECKING:
    from jaxsal.scan.explanations import Explanation


@dataclass(frozen=True)
class LesionResults:
    """What one map is written to.

    Attributes:
        explained: what the map is about.
        shown: how it appears.
        settings: which map it is.
    """

    explained: Explanation
    shown: Appearance
    settings: ExplainSettings

    def maps(self, ending: str = "") -> list[str]:
        """Names of the map's files, one per channel of it; see `parts_of` for endings."""
        stem = self.explained.stem
        return [f"maps/{stem}_{name}{ending}.nii.gz" for name in self.shown.files]

    @property
    def picture(self) -> str | None:
        """Name of the picture, if there is one."""
        return f"pictures/{self.explained.stem}.png" if self.settings.pictures else None

    @property
    def files(self) -> list[str]:
        """Names of all files."""
        errors = self.maps("_se") if self.shown.standard_error else []
        return [*self.maps(), *errors, *([self.picture] if self.picture else [])]

    def row(self, statistics: Row) -> Row:
        """The row of the table with these statistics of the map."""
        row = {**statistics, **self.explained.row}
        return {**row, "picture": self.picture} if self.picture else row

    def kept_row(self, kept: Any) -> Row | None:
        """The row that was kept, which may be anything; None if it is no row of this lesion."""
        label = self.explained.row["label"]
        if not isinstance(kept, dict) or kept.get("label") != label:
            return None
        parcelled = "region" in self.explained.row
        if parcelled != (REGIONS in kept) or not are_regions(kept.get(REGIONS, [])):
            return None
        # A forecast does without members; explained rows have what they say.
        others = {*UNCERTAINTY_COLUMNS, REGIONS}
        if kept.keys() - others != {*self.shown.table_columns(), *self.row({})} - others:
            return None
        statistics = [kept[column.key] for column in self.shown.page_columns()]
        numbers = all(value is None or isinstance(value, int | float) for value in statistics)
        return self.row(kept) if numbers else None


class PortionResults(dict[int, LesionResults]):
    """What the lesions of one portion leave, by label."""

    @property
    def files(self) -> list[str]:
        """Names of all their files."""
        return [name for lesion in self.values() for name in lesion.files]

    def kept_rows(self, kept: Sequence[Any]) -> list[Row] | None:
        """The rows that were kept, which may be anything; None unless each lesion has just one."""
        tried = (lesion.kept_row(each) for each in kept for lesion in self.values())
        rows = [row for row in tried if row is not None]
        labels = {row["label"] for row in rows}
        return rows if len(labels) == len(rows) == len(kept) == len(self) else None


def maps_of(
    model: Model,
    prediction: Prediction,
    wanted: Explanations,
    prediction_settings: PredictSettings,
    settings: ExplainSettings,
    on_progress: OnProgress | None,
) -> Iterator[tuple[int, Crop]]:
    """Each wanted label with its map."""
    field_settings = replace(prediction_settings, field=settings.field)
    box = prediction.scan.box
    model = as_run(model, field_settings)
    crops = METHODS[settings.method].compute(
        model,
        make_field(model, field_settings),
        box.cut(prediction.scan.image),
        box.cut(wanted.domains),
        settings.saliency,
        level=settings.level,
        on_progress=on_progress,
        scene=_scene(prediction, wanted),
    )
    # Maps of that part of the image, as maps of the image.
    return ((n, replace(crop, origin=crop.box.shift(box.start).start)) for n, crop in crops)


def _scene(prediction: Prediction, wanted: Explanations) -> Scene:
    """The part of a scan that the network is given; what is explained counts as lesion, too."""
    scan, lesions = prediction.scan, (prediction.domains != 0) | (wanted.labels != 0)
    return Scene(scan.grid.spacing, scan.box.cut(lesions))


@dataclass(frozen=True, eq=False)
class Portions:
    """What is computed of a scan, in which portions.

    Attributes:
        model: the network.
        prediction: the scan with its lesions.
        wanted: what is explained of it.
        finding: how lesions were found.
        settings: which maps.
        shown: how they appear.
    """

    model: Model
    prediction: Prediction
    wanted: Explanations
    finding: PredictSettings
    settings: ExplainSettings
    shown: Appearance

    @cached_property
    def results(self) -> list[PortionResults]:
        """What each portion leaves."""
        results = {
            label: LesionResults(about, self.shown, self.settings)
            for label, about in self.wanted.maps.items()
        }
        return [PortionResults({at: results[at] for at in labels}) for labels in self._labels()]

    def _labels(self) -> Iterator[tuple[int, ...]]:
        cost = cost_of(self.settings)
        voxels = {label: about.voxels for label, about in self.wanted.maps.items()}
        sizes = voxels
        if cost is not None:
            sizes = {label: cost.gradients(count) for label, count in voxels.items()}
        return together(sizes, most_together(self.settings, self.settings.portion))

    def maps(self, labels: Iterable[int], on_progress: OnProgress) -> Iterator[tuple[int, Crop]]:
        """Each label of a portion with its map."""
        part = self.wanted.part(labels)
        yield from maps_of(
            self.model, self.prediction, part, self.finding, self.settings, on_progress
        )

    def gradients(self, labels: Iterable[int]) -> dict[int, int]:
        """How many gradients each map of a portion takes; empty where that is not known."""
        domains = self.prediction.scan.box.cut(self.wanted.part(labels).domains)
        method, scene = METHODS[self.settings.method], _scene(self.prediction, self.wanted)
        return method.gradients(self._field, domains, self.settings.saliency, scene)

    def within(self, memory: int) -> Portions:
        """The same, within so many bytes."""
        saliency = replace(self.settings.saliency, memory=memory)
        return replace(self, settings=replace(self.settings, saliency=saliency))

    @cached_property
    def _field(self) -> LogitField:
        finding = replace(self.finding, field=self.settings.field)
        return make_field(as_run(self.model, finding), finding)
