"""Whether maps are faithful: do logits fall when what a map marks is hidden, and rise when shown.

A ranking by distance from the lesion knows nothing of the network. A map that does not beat it
says nothing but that what matters is near the lesion.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from jaxsal.errors import require
from jaxsal.experiments.catalogue import Experiment
from jaxsal.experiments.choice import check_range, clearest, is_within, none_of_volume, pair
from jaxsal.experiments.direct import note_approximated
from jaxsal.experiments.each_lesion import KeptLesions
from jaxsal.experiments.each_scan import each_scan
from jaxsal.experiments.faithfulness_curves import LEAST_PROBABILITY, PERCENT, with_area
from jaxsal.experiments.faithfulness_figure import draw, drawn
from jaxsal.experiments.faithfulness_lesion import AskedScan, RankedLesion
from jaxsal.experiments.faithfulness_maps import (
    MethodMaps,
    checked_methods,
    favoured,
    maps_of_methods,
)
from jaxsal.experiments.faithfulness_ranking import BLIND
from jaxsal.experiments.faithfulness_summary import SUMMARY_COLUMNS, summary_of
from jaxsal.experiments.findings import Findings
from jaxsal.experiments.statistics import few_at_most, few_patients, too_few
from jaxsal.inputs.entries import Entry
from jaxsal.lesions import Instance
from jaxsal.options import option
from jaxsal.saliency.methods.smoothgrad import SmoothGradSettings
from jaxsal.scan.prediction import Prediction
from jaxsal.scan.provenance import without_memory
from jaxsal.settings import INFILLS, Infill
from jaxsal.tables import Row

if TYPE_CHECKING:
    from jaxsal.experiments.study import Study

_NAME = "faithfulness"
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
    "turning_percent": "part of the ranked voxels, in %, from which on the lesion is missed as "
    "they are hidden (deletion), or found as they are shown (insertion): no voxel of it, or one, "
    "reaches the threshold; empty: it never is",
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
    study.say(few_at_most(settings.most, len(study.entries)))
    few = (settings.most, settings.volume) != (None, None)
    maps = maps_of_methods(study, names, settings.layer, few=few)
    curves = {
        "infill": settings.infill,
        "methods": {each.settings.method: without_memory(each.settings) for each in maps},
        "seed": study.saliency.seed,
        "field": study.field,
    }
    chosen = {"volume": settings.volume, "most": settings.most}

    def records(entry: Entry) -> dict[str, Path]:
        return {name: path(entry) for each in maps for name, path in each.records.items()}

    def kept_of(entry: Entry) -> KeptLesions:
        return KeptLesions(study, _NAME, curves, entry, records(entry))

    compute = partial(_of_scan, study, settings, maps, kept_of)
    kept = each_scan(study, _NAME, {**curves, **chosen}, compute, records)
    rows = [with_area(row, settings.least_drop) for row in kept if "method" in row]
    if not rows:
        volumes = [row["volume_mm3"] for row in kept if "volume_mm3" in row]
        of_volume = none_of_volume(volumes, settings.volume or _ANY_VOLUME)
        study.note_none(of_volume if volumes else "no lesion was found in any scan")
        return Findings(COLUMNS, [], [], None, tuple(study.notes))
    study.note(few_patients(len({row["subject"] for row in rows})))
    _note_undefined(study, rows, settings.least_drop)
    for sentence in favoured(maps, settings.infill):
        study.note(sentence)
    _count_drawn(study, maps, rows)
    methods = (*names, *BLIND)
    summary = summary_of(rows, methods, settings.infill, study.model.channels)
    study.note(too_few([row["n"] for row in summary]))
    return Findings(
        COLUMNS,
        rows,
        summary,
        draw(rows, methods, settings.infill),
        tuple(study.notes),
        SUMMARY_COLUMNS,
    )


def _count_drawn(study: Study, maps: Sequence[MethodMaps], rows: Sequence[Row]) -> None:
    """Counts the maps that the figure is of, of all that there are of the cohort's lesions."""
    study.counted.clear()
    for each in maps:
        if isinstance(each.settings, SmoothGradSettings):
            note_approximated(study, drawn(rows), each.settings)


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
    kept_of: Callable[[Entry], KeptLesions],
    entry: Entry,
    prediction: Prediction,
) -> list[Row]:
    """A row per curve of each lesion that is chosen, and one with the volume of every lesion."""
    kept, chosen = kept_of(entry), _chosen(prediction, settings)
    most = max((each.voxels for each in chosen), default=1)
    asked = AskedScan(study, prediction, settings.infill, most, settings.batch)
    rows: list[Row] = [{"volume_mm3": each.volume_mm3} for each in prediction.instances]
    for number, instance in enumerate(chosen, start=1):  # one by one: rankings take memory
        own = kept.rows(instance)
        if own is None:
            count = _Counter(study, f"{entry.id}: lesion {number} of {len(chosen)}")
            lesion = RankedLesion(study, entry, instance, prediction, maps)
            if lesion.unfit:
                own = [{"note": lesion.unfit}]
            else:
                own = kept.keep(instance, list(asked.curves(lesion, count)))
        rows += own
    return rows


def _chosen(prediction: Prediction, settings: FaithfulnessSettings) -> list[Instance]:
    volume = settings.volume or _ANY_VOLUME
    found = [each for each in prediction.instances if is_within(each.volume_mm3, volume)]
    if settings.most is not None:
        found = clearest(found, prediction)[: settings.most]
    return sorted(found, key=lambda each: each.label)


class _Counter:
    """Shows how many windows of a lesion are done."""

    def __init__(self, study: Study, lesion: str) -> None:
        self._study, self._lesion, self._done = study, lesion, 0

    def __call__(self, count: int) -> None:
        self._done += count
        self._study.monitor.detail(f"{self._lesion}, {self._done} windows")


EXPERIMENT = Experiment(faithfulness, FaithfulnessSettings)
