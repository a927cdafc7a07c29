"""How alike a lesion's maps stay while layers are randomised; each stage is kept once measured."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING

import numpy as np

from jaxsal.box import Box
from jaxsal.experiments.derived import generator_of
from jaxsal.experiments.direct import about_lesion, map_of, maximum, saliency_identity
from jaxsal.experiments.each_lesion import KeptLesions
from jaxsal.experiments.map_similarity import correlation_of_ranks, structural_similarity
from jaxsal.experiments.randomised_layers import cascade, stages_of
from jaxsal.experiments.regions import distance_mm

if TYPE_CHECKING:
    from jaxsal.experiments.study import Study
    from jaxsal.inputs.entries import Entry
    from jaxsal.lesions import Instance
    from jaxsal.model import Model
    from jaxsal.saliency.methods.smoothgrad import SmoothGradSettings
    from jaxsal.scan.prediction import Prediction
    from jaxsal.tables import Row

AROUND = 20.0
"""Distance in mm around a lesion's box in which maps are compared."""

NOISE, DISTANCE = "other noise", "distance"

Part = tuple[int | None, str]
"""Stage and layer of rows; of another network, None and its checksum."""


@dataclass(frozen=True, eq=False)
class Other:
    """Another network that is asked for its maps.

    Attributes:
        place: its model directory.
        model: the network.
        checksum: of its parameters.
    """

    place: str
    model: Model
    checksum: str


def lesion_rows(
    study: Study,
    entry: Entry,
    prediction: Prediction,
    lesion: Instance,
    stages: Collection[int],
    others: Sequence[Other],
) -> list[Row]:
    """Rows of a lesion; what was measured before, for whatever stages and networks, is not again.

    Args:
        study: the scans.
        entry: the scan.
        prediction: the scan with its lesions.
        lesion: one of them.
        stages: which ones are compared, from 1 on.
        others: networks whose maps are set beside them.
    """
    kept = KeptLesions(study, "randomisation", saliency_identity(study), entry)
    found: dict[Part, list[Row]] = {}
    for row in kept.rows(lesion) or ():
        found.setdefault((row["stage"], row["layer"]), []).append(row)
    asked = _Asked(study, entry, prediction, lesion).parts(stages, others)
    for part, measure in asked.items():
        if part not in found:
            found[part] = measure()
            kept.keep(lesion, [row for rows in found.values() for row in rows])
    places = {other.checksum: other.place for other in others}
    rows = [row for part in asked for row in found[part]]
    return [{**row, "layer": places.get(row["layer"], row["layer"])} for row in rows]


class _Asked:
    """A lesion of a scan, and what may be measured of it."""

    def __init__(
        self, study: Study, entry: Entry, prediction: Prediction, lesion: Instance
    ) -> None:
        self._study, self._prediction, self._saliency = study, prediction, maximum(study)
        self._about = about_lesion(entry, lesion)
        self._omega = prediction.labels == lesion.label
        margin = np.ceil(AROUND / np.array(prediction.grid.spacing)).astype(int)
        start, stop = (np.array(end) for end in (lesion.box.start, lesion.box.stop))
        self._around = Box(start - margin, stop + margin).clip(self._omega.shape)
        rng = generator_of(entry, self._saliency.seed, lesion.label)
        self._cascade = enumerate(cascade(study.model, rng), start=1)

    def parts(
        self, stages: Collection[int], others: Sequence[Other]
    ) -> Mapping[Part, Callable[[], list[Row]]]:
        """What makes the rows of each part; stages must be asked in this order."""
        again = replace(self._saliency, seed=self._saliency.seed + 1)
        layers = [stage.layer for stage in stages_of(self._study.model.config)]
        found: dict[Part, Callable[[], list[Row]]] = {
            (0, NOISE): partial(self._compared, (0, NOISE), again)
        }
        for number in sorted(stages):
            found[number, layers[number - 1]] = partial(self._stage, number)
        for other in others:
            part = None, other.checksum
            found[part] = partial(self._compared, part, self._saliency, other.model)
        found[None, DISTANCE] = self._distance
        return found

    @cached_property
    def _original(self) -> np.ndarray:
        return self._map(self._saliency, None)

    def _map(self, saliency: SmoothGradSettings, model: Model | None) -> np.ndarray:
        crop = map_of(self._study, self._prediction, self._omega, saliency, model=model)
        return crop.on(self._around)

    def _stage(self, number: int) -> list[Row]:
        stage, model = next(each for place, each in self._cascade if place == number)
        return self._compared((number, stage.layer), self._saliency, model)

    def _compared(
        self, part: Part, saliency: SmoothGradSettings, model: Model | None = None
    ) -> list[Row]:
        original, other = self._original, self._map(saliency, model)
        alike = (likeness(original[..., c], other[..., c]) for c in range(original.shape[-1]))
        return self._rows(part, list(alike))

    def _distance(self) -> list[Row]:
        near = -distance_mm(self._omega, self._prediction.grid)[self._around.slices]
        alike = [
            correlation_of_ranks(np.abs(each), near) for each in np.moveaxis(self._original, -1, 0)
        ]
        found = [{"spearman_magnitude": None if np.isnan(each) else each} for each in alike]
        return self._rows((None, DISTANCE), found)

    def _rows(self, part: Part, found: Sequence[Row]) -> list[Row]:
        about = {**self._about, "stage": part[0], "layer": part[1]}
        pairs = zip(self._study.model.channels, found, strict=True)
        return [{**about, "channel": channel, **own} for channel, own in pairs]


def likeness(original: np.ndarray, other: np.ndarray) -> Row:
    """How alike two maps (x, y, z) are; None where a map is constant."""
    found = {
        "spearman": correlation_of_ranks(original, other),
        "spearman_magnitude": correlation_of_ranks(np.abs(original), np.abs(other)),
        "ssim": structural_similarity(original, other),
    }
    return {name: None if np.isnan(value) else value for name, value in found.items()}
