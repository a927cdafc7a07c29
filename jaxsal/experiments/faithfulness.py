"""Whether maps are faithful: do logits fall when what a map marks is hidden, and rise when shown.

A ranking by distance from the lesion knows nothing of the network. A map that does not beat it
says nothing but that what matters is near the lesion.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from jaxsal.errors import require
from jaxsal.experiments.catalogue import Experiment
from jaxsal.experiments.choice import (
    check_range,
    clearest,
    is_within,
    left_out,
    none_of_volume,
    pair,
    unfit,
)
from jaxsal.experiments.derived import generator_of
from jaxsal.experiments.each_scan import each_scan
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
from jaxsal.experiments.faithfulness_figure import draw
from jaxsal.experiments.faithfulness_maps import (
    MethodMaps,
    checked_methods,
    favoured,
    maps_of_methods,
)
from jaxsal.experiments.faithfulness_ranking import BLIND, Surroundings
from jaxsal.experiments.faithfulness_summary import SUMMARY_COLUMNS, summary_of
from jaxsal.experiments.findings import Findings
from jaxsal.experiments.statistics import few_patients
from jaxsal.inputs.entries import Entry
from jaxsal.lesions import Instance, output_channel
from jaxsal.options import option
from jaxsal.saliency.domains import wanted_target
from jaxsal.saliency.hiding import Question, answers
from jaxsal.saliency.infill import Infills, Scene
from jaxsal.scan.prediction import Prediction, as_run, make_field
from jaxsal.scan.provenance import without_memory
from jaxsal.settings import INFILLS, Infill
from jaxsal.tables import Row
from jaxsal.wording import counted

if TYPE_CHECKING:
    from jaxsal.experiments.study import Study
    from jaxsal.saliency.maps import Crop

_ANY_VOLUME = (0.0, math.inf)
_AT = {f"{percent:g}": percent for percent in PERCENT}
COLUMNS = {
    "scan": "what the scan is called",
    "subject": "the patient",
    "label": "value of the lesion in the scan's label map",
    "kind": "TP, FP or FN against the reference; predicted; given by the user",
    "voxels": "size in voxels",
    "volume_mm3": "volume in mm³",
    "method": "by whose map voxels are ranked; random: by chance; distance: the nearest first",
    "channel": "in which voxels are hidden and whose map ranks them; all: in all, by the sum of "
    "magnitudes",
    "infill": "what takes the place of hidden voxels; see `jaxsal.saliency.infill`",
    "direction": "deletion: the first ones are hidden; insertion: all but the first ones are",
    "auc": "area under the curve of the mean logit, where the image as it is is 1 and with all "
    "ranked voxels hidden 0; empty: hiding them lowers it by less than --least-drop",
    "auc_probability": "the same of the mean lesion probability; empty: hiding them lowers it by "
    f"less than {LEAST_PROBABILITY:g}",
    "turning_percent": "part of the voxels from which on the lesion is missed (deletion) or found "
    "(insertion): no voxel, or one, reaches the threshold; empty: it never is",
    **{f"logit_{name}": f"mean logit over the lesion at {name} % of the voxels" for name in _AT},
    **{f"probability_{name}": f"mean lesion probability at {name} %" for name in _AT},
    **{f"detected_{name}": f"1 if a voxel reaches the threshold at {name} %" for name in _AT},
}


@dataclass(frozen=True)
class FaithfulnessSettings:
    """Settings of `faithfulness`.

    Attributes:
        methods: whose maps are compared, of those in the registry. Options that they share with
            SmoothGrad are as given, others have their defaults.
        layer: layer of heat maps, as `jaxsal info` names it.
        infill: what takes the place of hidden voxels, one or more of mean, blurred and zero.
        volume: smallest and largest lesion, in mm³, both included. None: all.
        most: lesions of a scan, at most: those of the highest mean probability. None: all.
        least_drop: lesions whose mean logit falls by less than this when all voxels are hidden are
            left out of what is compared, and counted: areas are relative to that fall.
        batch: windows that are computed at once; more take more memory.
    """

    methods: tuple[str, ...] = option((), "NAME", shown="smoothgrad; with --layer gradcam++, too")
    layer: str | None = option(None, "NAME")
    infill: tuple[Infill, ...] = option(INFILLS)
    volume: tuple[float, float] | None = option(None, "MM3:MM3", parse=pair, shown="all")
    most: int | None = option(None, "N", shown="all")
    least_drop: float = option(0.5, "LOGITS")
    batch: int = option(4, "N")

    def __post_init__(self) -> None:
        known = bool(self.infill) and set(self.infill) <= set(INFILLS)
        once = len(set(self.infill)) == len(self.infill)
        require(known and once, "infill", f"some of {', '.join(INFILLS)}, each once", self.infill)
        if self.volume is not None:
            check_range("volume", self.volume)
        require(self.most is None or self.most >= 1, "most", "1 or more", self.most)
        valid = 0 <= self.least_drop < math.inf
        require(valid, "least_drop", "0 or more, in logits", self.least_drop)
        require(self.batch >= 1, "batch", "1 or more", self.batch)


def faithfulness(study: Study, settings: FaithfulnessSettings) -> Findings:
    """Deletion and insertion curves of lesions' logits, by the rankings of several methods.

    Raises:
        InputError: methods and layer do not go together.
    """
    names = checked_methods(settings.methods, settings.layer)
    maps = maps_of_methods(study, names, settings.layer)
    depends = {
        **asdict(settings),
        "batch": None,
        "methods": {each.method: without_memory(each.settings) for each in maps},
        "seed": study.saliency.seed,
        "field": study.field,
    }

    def records(entry: Entry) -> dict[str, Path]:
        return {each.method: each.results.record_path(entry.stem) for each in maps}

    compute = partial(_of_scan, study, settings, maps)
    kept = each_scan(study, "faithfulness", depends, compute, records)
    rows = [row for row in kept if "method" in row]
    if not rows:
        volumes = [row["volume_mm3"] for row in kept if "volume_mm3" in row]
        of_volume = none_of_volume(volumes, settings.volume or _ANY_VOLUME)
        study.note(of_volume if volumes else "no lesion was found in any scan")
        return Findings(COLUMNS, [], [], None, tuple(study.notes))
    study.note(few_patients(len({row["subject"] for row in rows})))
    _note_undefined(study, rows, settings.least_drop)
    for sentence in favoured(maps, settings.infill):
        study.note(sentence)
    methods = (*names, *BLIND)
    return Findings(
        COLUMNS,
        rows,
        summary_of(rows, methods, settings.infill, study.model.channels),
        draw(rows, methods, settings.infill),
        tuple(study.notes),
        SUMMARY_COLUMNS,
    )


def _note_undefined(study: Study, rows: Sequence[Row], least: float) -> None:
    empty = sum(row["auc"] is None for row in rows)
    if empty:
        study.note(
            f"{empty} of {len(rows)} curves have no area, and their lesions are left out of what "
            "is compared there: hiding all voxels does not lower the mean logit, or by less than "
            f"{least:g} (--least-drop)"
        )


def _of_scan(
    study: Study,
    settings: FaithfulnessSettings,
    maps: Sequence[MethodMaps],
    entry: Entry,
    prediction: Prediction,
) -> list[Row]:
    """A row per curve of each lesion that is chosen, and one with the volume of every lesion."""
    finding, loaded = replace(study.prediction, field=study.field), prediction.scan
    field = make_field(as_run(study.model, finding), finding)
    target = wanted_target(field, study.prediction.target)
    scene = Scene(loaded.grid.spacing, loaded.box.cut(prediction.labels) != 0)
    infills, chosen = Infills(loaded.box.cut(loaded.image), scene), _chosen(prediction, settings)
    most = max((each.voxels for each in chosen), default=1)
    count = _Counter(study, entry.id, len(chosen) * len(settings.infill))
    rows: list[Row] = [{"volume_mm3": each.volume_mm3} for each in prediction.instances]
    for instance in chosen:  # one by one: rankings and masks take memory
        lesion = RankedLesion(entry, instance, prediction, maps, study.saliency.seed)
        if lesion.unfit:
            rows.append({"note": lesion.unfit})
            continue
        found = answers(
            field,
            infills.image,
            (lesion.question(infill, infills) for infill in settings.infill),
            lambda logits: logits,
            most_voxels=most,
            batch=settings.batch,
            on_passes=count,
        )
        for infill, logits in zip(settings.infill, found, strict=True):
            channel = output_channel(target, logits.shape[-1])
            for curve in curves_of(logits, lesion.orders, channel, field.probability):
                rows.append(lesion.row(curve, infill, study.threshold, settings.least_drop))
    return rows


def _chosen(prediction: Prediction, settings: FaithfulnessSettings) -> list[Instance]:
    volume = settings.volume or _ANY_VOLUME
    found = [each for each in prediction.instances if is_within(each.volume_mm3, volume)]
    if settings.most is not None:
        found = clearest(found, prediction)[: settings.most]
    return sorted(found, key=lambda each: each.label)


class _Counter:
    """Shows how many windows of a scan are done."""

    def __init__(self, study: Study, scan: str, questions: int) -> None:
        self._study, self._scan, self._done = study, scan, 0
        self._of = counted(questions, "curve set")

    def __call__(self, count: int) -> None:
        self._done += count
        self._study.monitor.detail(f"{self._scan}: {self._done} windows, {self._of}")


@dataclass(frozen=True, eq=False)
class RankedLesion:
    """A lesion of a scan, and the rankings of the voxels around it.

    Attributes:
        entry: the scan.
        instance: the lesion.
        prediction: the scan with its lesions.
        maps: whose maps rank.
        seed: of the ranking by chance.
    """

    entry: Entry
    instance: Instance
    prediction: Prediction
    maps: Sequence[MethodMaps]
    seed: int

    @cached_property
    def unfit(self) -> str:
        """Why nothing can be asked about it; empty if it can."""
        reason = unfit(self.instance.box, self.prediction)
        if not reason and any(self._map(each) is None for each in self.maps):
            lacking = [each.method for each in self.maps if self._map(each) is None]
            reason = f"there is no map of {' and '.join(lacking)}"
        return reason and left_out(self.entry, self.instance, reason)

    @cached_property
    def around(self) -> Surroundings:
        """Its surroundings, in the part of the image that the network is given."""
        scan, label = self.prediction.scan, self.instance.label
        omega = scan.box.cut(self.prediction.labels) == label
        rng = generator_of(self.entry, self.seed, label)
        return Surroundings.of(omega, scan.grid.spacing, rng)

    @cached_property
    def orders(self) -> Orders:
        """The rankings by method and channel."""
        channels = {ALL: None} | {name: at for at, name in enumerate(self._channels)}
        return {
            (method, channel): order
            for channel, at in channels.items()
            for method, order in self._orders(at)
        }

    def question(self, infill: Infill, infills: Infills) -> Question:
        """What is hidden for all its curves."""
        filled = infills.of(infill, self.around.omega)
        return question_of(self.around, self.orders, self._channels, filled)

    def row(self, curve: Curve, infill: Infill, threshold: float, least_drop: float) -> Row:
        """The table's, of one curve; see `FaithfulnessSettings`."""
        names, instance = list(_AT), self.instance
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
            "auc": area(curve.direction, curve.logit, least_drop),
            "auc_probability": area(curve.direction, curve.probability, LEAST_PROBABILITY),
            "turning_percent": turning_percent(curve.direction, curve.highest, threshold),
            **{f"logit_{n}": v for n, v in zip(names, curve.logit.tolist(), strict=True)},
            **{
                f"probability_{n}": v
                for n, v in zip(names, curve.probability.tolist(), strict=True)
            },
            **{f"detected_{n}": v for n, v in zip(names, detected, strict=True)},
        }

    @property
    def _channels(self) -> tuple[str, ...]:
        return self.maps[0].results.channels

    def _orders(self, channel: int | None) -> Iterator[tuple[str, np.ndarray]]:
        start = self.prediction.scan.box.start
        for each in self.maps:
            crop = self._map(each)
            assert crop is not None  # it would be unfit
            moved = replace(crop, origin=crop.box.seen_from(start).start)
            yield each.method, self.around.by_map(moved, channel)
        for name in BLIND:
            yield name, self.around.blind(name)

    def _map(self, maps: MethodMaps) -> Crop | None:
        return maps.map(self.entry.stem, self.instance.label)


EXPERIMENT = Experiment(faithfulness, FaithfulnessSettings)
