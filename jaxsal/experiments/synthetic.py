"""Real lesions copied to other places: is a lesion one wherever it lies (Fig. 14)?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxsal.errors import require
from jaxsal.experiments.catalogue import Experiment
from jaxsal.experiments.choice import check_range, volume_option
from jaxsal.experiments.derived import Derived, derive, generator_of
from jaxsal.experiments.each_scan import entry_to_json
from jaxsal.experiments.findings import Findings
from jaxsal.experiments.placed import Opened, Original, begin, explained, plans_of
from jaxsal.experiments.regions import distance_mm
from jaxsal.experiments.synthetic_grafts import Graft, grafted, placed, places
from jaxsal.figures.panels import PanelRow, panel_figure
from jaxsal.inputs.entries import Entry
from jaxsal.lesions import Instance
from jaxsal.options import option
from jaxsal.tables import Row

if TYPE_CHECKING:
    from jaxsal.experiments.study import Study
    from jaxsal.scan.prediction import Prediction

OUTSIDE = 5.0
"""Distance in mm that what is copied out of the head keeps from it, at least."""

# By what a scan is called in which a lesion is so placed; in the figure's order.
SITUATIONS = {
    "own": "at its own place",
    "white": "in healthy white matter",
    "outside": "outside the head",
    "surrounded": "outside the head, with its surroundings",
}

COLUMNS = {
    "scan": "what the scan is called that the lesion is from",
    "label": "value of the lesion in that scan's label map",
    "kind": "TP against the reference; predicted; given by the user",
    "volume_mm3": "volume in mm³",
    "situation": ", ".join(f"{name}: {text}" for name, text in SITUATIONS.items()),
    "x_mm": "centroid at the new place in world coordinates, mm",
    "y_mm": "centroid at the new place in world coordinates, mm",
    "z_mm": "centroid at the new place in world coordinates, mm",
    "score": "mean lesion probability over the lesion's voxels",
    "highest": "the highest of them",
    "detected": "1 if that reaches the threshold, else 0",
}
SUMMARY_COLUMNS = {
    "situation": "where lesions are",
    "lesions": "number of lesions",
    "detected": "number of those whose highest probability reaches the threshold",
    "median score": "median of their mean probabilities",
    "channel": "with respect to which the maps are",
    "median max": "median of the maps' largest values",
    "median min": "median of the maps' smallest values",
}
_PEAKS = {
    "max": "largest value of the lesion's map",
    "min": "smallest value of the lesion's map",
    "mean_inside": "mean of the map over the lesion",
}


@dataclass(frozen=True)
class SyntheticSettings:
    """Settings of `synthetic`.

    Attributes:
        volume: smallest and largest lesion, in mm³, both included.
        lesions: lesions per scan at most, those first that are seen most clearly.
        surroundings: mm around a lesion that are copied along, in one of the situations.
        white_matter: folder of masks of white matter, one per scan, named after the scan as its
            results are, such as sub-01.nii.gz. None: a rule on FLAIR and T1 finds it.
    """

    volume: tuple[float, float] = volume_option()
    lesions: int = option(1, "N")
    surroundings: float = option(3.0, "MM")
    white_matter: str | None = option(None, "DIR")

    def __post_init__(self) -> None:
        check_range("volume", self.volume)
        require(self.lesions >= 1, "lesions", "1 or more", self.lesions)
        rule = "more than 0 and less than 100 mm"
        require(0 < self.surroundings < 100, "surroundings", rule, self.surroundings)


def synthetic(study: Study, settings: SyntheticSettings) -> Findings:
    """Scores and maps of lesions at their own place, in white matter, and outside the head.

    Source: Spagnolo et al. 2026, "Sanity checks", Fig. 14.
    """
    plans = plans_of(study, "synthetic", settings, partial(_of_scan, study, settings))
    if not plans:
        return Findings(_columns(study), [], [], None, tuple(study.notes))
    opened = Opened(explained(study, "synthetic", plans))
    found = list(_measured(study, plans, opened))
    rows = [row for row, _ in found]
    figure = panel_figure(*_shown(study, found, opened)) if found else None
    return Findings(
        _columns(study),
        rows,
        _summary(rows, study.model.channels),
        figure,
        tuple(study.notes),
        SUMMARY_COLUMNS,
    )


def _columns(study: Study) -> dict[str, str]:
    peaks = {
        f"{channel}_{name}": f"{meaning}, {channel}"
        for channel in study.model.channels
        for name, meaning in _PEAKS.items()
    }
    return {**COLUMNS, **peaks}


def _of_scan(
    study: Study, settings: SyntheticSettings, entry: Entry, prediction: Prediction
) -> list[Row]:
    """Makes the scans; a row for each of them, for every lesion found, and for what has no room."""
    original, chosen, rows = begin(study, settings, entry, prediction)
    for instance in chosen:
        rng = generator_of(entry, study.saliency.seed, instance.label)
        maker = _Maker(original, instance, settings, rng)
        for situation, derived in maker.made():
            name = f"{entry.id}: lesion {instance.label} {SITUATIONS[situation]}"
            if isinstance(derived, str):
                rows.append({"note": f"{name} is left out: {derived}"})
                continue
            (scan,) = derive(study, "synthetic", entry, original.grid, [derived])
            rows.append(
                {
                    "scan": entry.id,
                    "label": instance.label,
                    "kind": instance.kind,
                    "volume_mm3": instance.volume_mm3,
                    "situation": situation,
                    "entry": entry_to_json(scan),
                }
            )
    return rows


@dataclass(frozen=True, eq=False)
class _Maker:
    """Makes the scans of one lesion.

    Attributes:
        original: the scan that it is from.
        instance: the lesion.
        settings: of the experiment.
        rng: draws the places.
    """

    original: Original
    instance: Instance
    settings: SyntheticSettings
    rng: np.random.Generator

    def made(self) -> Iterator[tuple[str, Derived | str]]:
        """A scan per situation, or why there is none."""
        original, grid = self.original, self.original.grid
        omega = original.prediction.labels == self.instance.label
        yield "own", Derived(self._tag("own"), omega.astype(np.int32))
        bare = Graft.of(omega, 0, grid)
        healthy, unknown = original.white_matter
        white = self._at("white", bare, self._place(healthy, bare))
        yield "white", unknown or white
        more = Graft.of(omega, self.settings.surroundings, grid)
        background = distance_mm(original.head, grid) > OUTSIDE
        place = self._place(background, more)
        # The two lie at the same place, so that only the surroundings differ.
        shifted = None if place is None else place + bare.corner - more.corner
        yield "outside", self._at("outside", bare, shifted)
        if more.part.sum() == bare.part.sum():
            yield "surrounded", f"no voxel is within {self.settings.surroundings:g} mm of it"
        else:
            yield "surrounded", self._at("surrounded", more, place)

    def _place(self, allowed: np.ndarray, graft: Graft) -> np.ndarray | None:
        free = places(allowed, graft.part)
        return free[self.rng.integers(len(free))] if len(free) else None

    def _at(self, situation: str, graft: Graft, corner: np.ndarray | None) -> Derived | str:
        if corner is None:
            return "there is no room for it"
        images = grafted(self.original.images, graft, corner)
        shape, brain = self.original.grid.shape, self.original.brain
        labels = placed(graft.omega, corner, shape).astype(np.int32)
        if brain is not None:  # what is copied out of it is to be seen
            brain = brain | placed(graft.part, corner, shape)
        return Derived(self._tag(situation), labels, list(np.moveaxis(images, -1, 0)), brain)

    def _tag(self, situation: str) -> str:
        return f"{situation}{self.instance.label}"


def _measured(study: Study, plans: Sequence[Row], opened: Opened) -> Iterator[tuple[Row, str]]:
    """The table's rows, each with its scan's name in the run; scans that failed have none."""
    for scan, (plan,) in opened.one_by_one(plans):
        if not scan.rows:
            continue
        (own, *_) = scan.rows
        row = {key: plan[key] for key in COLUMNS if key in plan}
        inside = scan.probability[scan.labels > 0]
        highest = float(inside.max())
        row |= {key: own[key] for key in ("x_mm", "y_mm", "z_mm")}
        row |= {"score": float(inside.mean()), "highest": highest}
        row["detected"] = int(highest >= study.threshold)
        for channel in study.model.channels:
            for name in _PEAKS:
                row[f"{channel}_{name}"] = own[f"{channel}_{name}"]
        yield row, scan.id


def _summary(rows: Sequence[Row], channels: Sequence[str]) -> list[Row]:
    """Per situation: how many lesions, how many detected, their score; and medians of peaks."""
    scores: list[Row] = []
    peaks: list[Row] = []
    for situation, text in SITUATIONS.items():
        own = [row for row in rows if row["situation"] == situation]
        if not own:
            continue
        scores.append(
            {
                "situation": text,
                "lesions": len(own),
                "detected": sum(row["detected"] for row in own),
                "median score": float(np.median([row["score"] for row in own])),
            }
        )
        for channel in channels:
            peaks.append({"situation": text, "lesions": len(own), "channel": channel})
            for name in ("max", "min"):
                values = [row[f"{channel}_{name}"] for row in own]
                peaks[-1][f"median {name}"] = float(np.median(values))
    return [*scores, *peaks]


def _shown(
    study: Study, found: Sequence[tuple[Row, str]], opened: Opened
) -> tuple[list[PanelRow], tuple[str, ...], str]:
    """What the figure shows: the first lesion that was placed in most situations."""
    lesions: dict[Any, list[tuple[Row, str]]] = {}
    for row, name in found:
        lesions.setdefault((row["scan"], row["label"]), []).append((row, name))
    pairs = max(lesions.values(), key=len)
    rows = []
    for row, name in pairs:
        scan = opened.scan(name)
        assert scan is not None  # it was measured
        crop = scan.map(scan.rows[0]["label"], opened.method)
        rows.append(
            PanelRow(
                _heading(row),
                scan.image,
                scan.labels > 0,
                crop.values,
                crop.origin,
                scan.grid,
                scan.probability,
            )
        )
    first = pairs[0][0]
    title = (
        f"One lesion ({first['volume_mm3']:.0f} mm³) at several places\n"
        f"{first['scan']}, label {first['label']}; one of {len(lesions)}; threshold "
        f"{study.threshold:g}"
    )
    return rows, study.model.channels, title


def _heading(row: Mapping[str, Any]) -> str:
    detected = "detected" if row["detected"] else "not detected"
    return (
        f"{SITUATIONS[row['situation']]}: {detected}, mean probability {row['score']:.2f}, "
        f"highest {row['highest']:.2f}"
    )


EXPERIMENT = Experiment(synthetic, SyntheticSettings, uses_maps=False)
