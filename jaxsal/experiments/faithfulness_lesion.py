"""A lesion of `faithfulness`: how the voxels around it are ranked, and its curves."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from jaxsal.experiments.choice import left_out, unfit
from jaxsal.experiments.derived import generator_of
from jaxsal.experiments.faithfulness_curves import (
    ALL,
    LEAST_PROBABILITY,
    PERCENT,
    Curve,
    Orders,
    area,
    curves_of,
    question_of,
    turning_percent,
)
from jaxsal.experiments.faithfulness_maps import MethodMaps
from jaxsal.experiments.faithfulness_ranking import BLIND, Surroundings
from jaxsal.inputs.entries import Entry
from jaxsal.lesions import Instance, output_channel
from jaxsal.saliency.domains import wanted_target
from jaxsal.saliency.hiding import Question, answers
from jaxsal.saliency.infill import Infills, Scene
from jaxsal.scan.prediction import Prediction, as_run, make_field
from jaxsal.settings import Infill
from jaxsal.tables import Row

if TYPE_CHECKING:
    from jaxsal.experiments.study import Study
    from jaxsal.field.plan import LogitField
    from jaxsal.saliency.maps import Crop


@dataclass(frozen=True, eq=False)
class RankedLesion:
    """A lesion of a scan, and the rankings of the voxels around it.

    Attributes:
        study: of the scan; its seed is that of the ranking by chance, too.
        entry: the scan.
        instance: the lesion.
        prediction: the scan with its lesions.
        maps: whose maps rank.
    """

    study: Study
    entry: Entry
    instance: Instance
    prediction: Prediction
    maps: Sequence[MethodMaps]

    @cached_property
    def unfit(self) -> str:
        """Why nothing can be asked about it; empty if it can."""
        reason = unfit(self.instance.box, self.prediction)
        lacking = [] if reason else [name for name, crop in self._crops.items() if crop is None]
        if lacking:
            reason = f"there is no map of {' and '.join(lacking)}"
        return reason and left_out(self.entry, self.instance, reason)

    @cached_property
    def around(self) -> Surroundings:
        """Its surroundings, in the part of the image that the network is given."""
        scan, label = self.prediction.scan, self.instance.label
        omega = scan.box.cut(self.prediction.labels) == label
        rng = generator_of(self.entry, self.study.saliency.seed, label)
        return Surroundings.of(omega, scan.grid.spacing, rng)

    @cached_property
    def orders(self) -> Orders:
        """The rankings by method and channel."""
        names = self.study.model.channels
        channels = {ALL: None} | {name: at for at, name in enumerate(names)}
        return {
            (method, channel): order
            for channel, at in channels.items()
            for method, order in self._orders(at)
        }

    def question(self, infill: Infill, infills: Infills) -> Question:
        """What is hidden for all its curves."""
        filled = infills.of(infill, self.around.omega)
        return question_of(self.around, self.orders, self.study.model.channels, filled)

    def row(self, curve: Curve, infill: Infill, threshold: float) -> Row:
        """The table's, of one curve, without `auc`, which settings decide on."""
        instance, names = self.instance, [f"{percent:g}" for percent in PERCENT]
        detected = (curve.highest >= threshold).astype(int).tolist()
        return {
            "scan": self.entry.id,
            "subject": self.entry.entities["subject"],
            "label": instance.label,
            "kind": instance.kind,
            "voxels": instance.voxels,
            "volume_mm3": instance.volume_mm3,
            "method": curve.method,
            "channel": curve.channel,
            "infill": infill,
            "direction": curve.direction,
            "auc_probability": area(curve.direction, curve.probability, LEAST_PROBABILITY),
            "turning_percent": turning_percent(curve.direction, curve.highest, threshold),
            **{f"logit_{n}": v for n, v in zip(names, curve.logit.tolist(), strict=True)},
            **{
                f"probability_{n}": v
                for n, v in zip(names, curve.probability.tolist(), strict=True)
            },
            **{f"detected_{n}": v for n, v in zip(names, detected, strict=True)},
        }

    def _orders(self, channel: int | None) -> Iterator[tuple[str, np.ndarray]]:
        start = self.prediction.scan.box.start
        for method, crop in self._crops.items():
            assert crop is not None  # it would be unfit
            moved = replace(crop, origin=crop.box.seen_from(start).start)
            yield method, self.around.by_map(moved, channel)
        for name in BLIND:
            yield name, self.around.blind(name)

    @cached_property
    def _crops(self) -> dict[str, Crop | None]:
        """Its map by each method; None where there is none."""
        at = self.entry, self.prediction, self.instance.label
        return {each.settings.method: each.map(*at) for each in self.maps}


@dataclass(frozen=True, eq=False)
class AskedScan:
    """A scan whose lesions the network is asked about.

    Attributes:
        study: whose network.
        prediction: the scan with its lesions.
        infilled: what takes the place of hidden voxels, in turn.
        most: voxels of the largest lesion.
        batch: windows at once.
    """

    study: Study
    prediction: Prediction
    infilled: tuple[Infill, ...]
    most: int
    batch: int

    @cached_property
    def field(self) -> LogitField:
        """Logits, as maps are of them."""
        finding = replace(self.study.prediction, field=self.study.field)
        return make_field(as_run(self.study.model, finding), finding)

    @cached_property
    def infills(self) -> Infills:
        """The image, and what takes the place of hidden voxels."""
        loaded = self.prediction.scan
        scene = Scene(loaded.grid.spacing, loaded.box.cut(self.prediction.labels) != 0)
        return Infills(loaded.box.cut(loaded.image), scene)

    def curves(self, lesion: RankedLesion, count: Callable[[int], None]) -> Iterator[Row]:
        """A row per curve of a lesion; `count` is called with how many more windows are done."""
        target = self.study.prediction.target
        found = answers(
            self.field,
            self.infills.image,
            (lesion.question(infill, self.infills) for infill in self.infilled),
            lambda logits: logits,
            most_voxels=self.most,
            batch=self.batch,
            on_passes=count,
        )
        for infill, logits in zip(self.infilled, found, strict=True):
            channel = output_channel(wanted_target(self.field, target), logits.shape[-1])
            for curve in curves_of(logits, lesion.orders, channel, self.field.probability):
                yield lesion.row(curve, infill, self.study.threshold)
