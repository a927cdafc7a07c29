"""What a network is uncertain of: lesions that it missed, and those that it found and are none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from jaxsal.errors import InputError
from jaxsal.experiments.catalogue import Experiment
from jaxsal.experiments.choice import require_references
from jaxsal.experiments.derived import Derived, derive
from jaxsal.experiments.each_scan import each_scan, entry_from_json, entry_to_json
from jaxsal.experiments.findings import Findings
from jaxsal.experiments.statistics import few_patients, too_few
from jaxsal.experiments.uncertainty_candidates import marks_of, missed_in, only
from jaxsal.experiments.uncertainty_figure import draw
from jaxsal.experiments.uncertainty_maps import compared
from jaxsal.experiments.uncertainty_summary import (
    COMPARED,
    MEANINGS,
    SUMMARY_COLUMNS,
    alike,
    at,
    beyond_volume,
    separated,
)
from jaxsal.options import option
from jaxsal.scan.candidates import candidates_of
from jaxsal.scan.members import require_members
from jaxsal.scan.prediction import completed
from jaxsal.scan.uncertain_lesions import uncertainty_of
from jaxsal.settings import MemberKind, UncertaintySettings
from jaxsal.tables import Row

if TYPE_CHECKING:
    from jaxsal.experiments.study import Study
    from jaxsal.inputs.entries import Entry
    from jaxsal.scan.prediction import Prediction

_COLUMNS = {
    "scan": "what the scan is called in the cohort",
    "subject": "the patient",
    "label": "of the lesion",
    "kind": "TP, FP or FN against the reference",
    "volume_mm3": "volume in mm³",
    "lsu": f"{MEANINGS['lsu']}: 0, all members agree, to 1",
    "entropy": f"{MEANINGS['entropy']}, nats: 0 is sure, 0.693 (the logarithm of 2) not at all",
    "found_up_to": "of FN: the largest threshold at which a candidate is on it, nats",
}


def _thresholds(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise ValueError("must be numbers with commas between, such as 0.1,0.3") from error


@dataclass(frozen=True)
class UncertaintyExperimentSettings(UncertaintySettings):
    """Settings of `uncertainty`.

    Attributes:
        uncertainty: what differs between members: noisy copies of the image ("noise"), copies
            mirrored along each choice of axes ("mirror"), the networks of an ensemble ("folds"),
            or the network with its dropout ("dropout").
        candidates: threshold whose candidates' maps are compared with those of the experts' marks.
            None: 0.3.
        thresholds: least entropies of candidates, in nats.
    """

    uncertainty: MemberKind = option("noise")
    thresholds: tuple[float, ...] = option(
        tuple(round(0.05 * n, 2) for n in range(1, 14)), "0.1,0.3", parse=_thresholds
    )

    def __post_init__(self) -> None:
        if self.candidates is None:
            object.__setattr__(self, "candidates", 0.3)
        super().__post_init__()
        once = 0 < len(set(self.thresholds)) == len(self.thresholds)
        if not once or not all(0 < each < np.log(2) for each in self.thresholds):
            raise InputError(
                "thresholds must be different ones between 0 and 0.693, the natural logarithm of "
                "2, which no entropy exceeds; got "
                f"{', '.join(map(str, self.thresholds)) or 'none'}"
            )

    @property
    def members_alone(self) -> UncertaintySettings:
        """Of the members; candidates are found here, for several thresholds."""
        own = {each.name: getattr(self, each.name) for each in fields(UncertaintySettings)}
        return UncertaintySettings(**{**own, "candidates": None})


def uncertainty(study: Study, settings: UncertaintyExperimentSettings) -> Findings:
    """Candidates for missed lesions by threshold, their maps, and the uncertainty of TP and FP.

    Raises:
        InputError: no scan has a reference, or the network has no such members.
    """
    require_references(study)
    finding = completed(study.prediction, study.model)
    require_members(study.model, finding, settings.members_alone)

    def compute(entry: Entry, prediction: Prediction) -> list[Row]:
        return _rows(study, settings, entry, prediction)

    found = each_scan(study, "uncertainty", asdict(settings), compute)
    thresholds = [row for row in found if "threshold" in row]
    maps = {(row["scan"], row["label"]): row for row in _maps(study, found)}
    channels = study.model.channels
    columns = {
        f"{c}_{key}": f"{c}: {text}" for c, (key, text) in product(channels, COMPARED.items())
    }
    rows = [
        {**dict.fromkeys(columns), **row, **maps.get((row["scan"], row["label"]), {})}
        for row in found
        if "kind" in row
    ]
    _note_few(study, rows, paired=any("entry" in row for row in found))
    study.note(few_patients(len({row["subject"] for row in rows})))
    curve = [at(threshold, thresholds) for threshold in sorted(settings.thresholds)]
    return Findings(
        {**_COLUMNS, **columns},
        rows,
        [*curve, *separated(rows), *beyond_volume(rows), *alike(rows, channels)],
        draw(rows, curve, channels, settings.uncertainty) if rows else None,
        tuple(study.notes),
        SUMMARY_COLUMNS,
    )


def _note_few(study: Study, rows: Sequence[Row], *, paired: bool) -> None:
    """Notes why there are no shares of missed lesions, or no maps to compare."""
    missed = sum(row["kind"] == "FN" for row in rows)
    if not missed:
        study.note_none("no lesion was missed: there is none for a candidate to lie on")
        return
    study.note(too_few([missed], "missed lesion", "shares"))
    if not paired:
        study.note("no candidate lies on a missed lesion, so that there are no maps to compare")


def _rows(
    study: Study,
    settings: UncertaintyExperimentSettings,
    entry: Entry,
    prediction: Prediction,
) -> list[Row]:
    """What is known of a scan: rows of lesions, of thresholds, and of scans to explain."""
    if prediction.scan.reference is None:
        return []

    def stage(text: str) -> None:
        study.monitor.detail(f"{entry.id}: {text}")

    asked = settings.members_alone, stage
    found = uncertainty_of(study.model, prediction, study.prediction, *asked)
    own = {"scan": entry.id, "subject": entry.entities["subject"]}
    curve = []
    for threshold in settings.thresholds:
        marks = marks_of(_candidates(study, prediction, found.entropy, threshold), prediction)
        counts = {"candidates": marks.candidates, "false": marks.false}
        hit = {str(each.label): each.label in marks.pairs for each in missed_in(prediction)}
        curve.append({**own, "threshold": threshold, "missed": hit, **counts})
    lesions = [
        {
            **own,
            **{key: getattr(each, key) for key in ("label", "kind", "volume_mm3")},
            **found.rows[each.label],
            "found_up_to": _most(curve, each.label),
        }
        for each in prediction.instances
        if each.kind in ("TP", "FP", "FN")
    ]
    assert settings.candidates is not None  # the settings put a default in
    candidates = _candidates(study, prediction, found.entropy, settings.candidates)
    return [*curve, *lesions, *_plan(study, entry, prediction, candidates)]


def _candidates(
    study: Study, prediction: Prediction, entropy: np.ndarray, threshold: float
) -> np.ndarray:
    place = prediction.grid, study.prediction.minimum_volume
    return candidates_of(entropy, prediction.segmented, threshold, *place)


def _most(curve: Sequence[Row], label: int) -> float | None:
    """The largest threshold at which a candidate is on a missed lesion."""
    return max((r["threshold"] for r in curve if r["missed"].get(str(label))), default=None)


def _plan(
    study: Study, entry: Entry, prediction: Prediction, candidates: np.ndarray
) -> Iterator[Row]:
    """Writes the scan with the marks of missed lesions, and with the candidates on them."""
    pairs = marks_of(candidates, prediction).pairs
    domains = {
        "mark": only(prediction.labels, list(pairs)),
        "candidate": only(candidates, list(pairs.values())),
    }
    made = [Derived(tag, labels) for tag, labels in domains.items()]
    derived = derive(study, "uncertainty", entry, prediction.grid, made)
    for each, tag in zip(derived, domains, strict=False):
        yield {
            "tag": tag,
            "of": entry.id,
            "pairs": list(pairs.items()),
            "entry": entry_to_json(each),
        }


def _maps(study: Study, found: Sequence[Row]) -> list[Row]:
    """The maps of marks and candidates, compared."""
    made = [row for row in found if "entry" in row]
    if not made:
        return []
    plans: dict[str, Row] = {}
    for row in made:
        plan = plans.setdefault(row["of"], {"scan": row["of"], "pairs": row["pairs"]})
        plan[row["tag"]] = row["entry"]["id"]
    entries = [entry_from_json(row["entry"]) for row in made]
    results = study.run("uncertainty", entries, replace(study.saliency, aggregate="max"))
    return list(compared(results, list(plans.values())))


EXPERIMENT = Experiment(uncertainty, UncertaintyExperimentSettings, uses_maps=False)
