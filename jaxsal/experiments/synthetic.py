"""Real lesions copied to other places: is a lesion one wherever it lies (Fig. 14)?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from jaxsal.cohort.entries import Entry
from jaxsal.cohort.results import CohortResults, ScanResults
from jaxsal.experiments.choice import FOUND, clearest, none_of_volume, of_volume
from jaxsal.experiments.findings import Findings
from jaxsal.experiments.kept import entry_of, told
from jaxsal.experiments.originals import Original
from jaxsal.experiments.regions import distance_mm
from jaxsal.experiments.settings import SyntheticSettings
from jaxsal.experiments.study import Derived, Study
from jaxsal.experiments.transplant import Graft, grafted, placed, places
from jaxsal.lesions import Instance
from jaxsal.report.panels import PanelRow, panel_figure
from jaxsal.scan.predict import Prediction
from jaxsal.scan.results import Row

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
_PEAKS = {
    "max": "largest value of the lesion's map",
    "min": "smallest value of the lesion's map",
    "mean_inside": "mean of the map over the lesion",
}


def synthetic(study: Study, settings: SyntheticSettings) -> Findings:
    """Scores and maps of lesions at their own place, in white matter, and outside the head.

    Source: Spagnolo et al. 2026, "Sanity checks", Fig. 14.
    """
    identity = {**asdict(settings), "seed": study.saliency.seed}
    kept = study.each_scan("synthetic", identity, partial(_of_scan, study, settings))
    plans = [row for _, rows in kept for row in rows]
    for row in plans:
        if "note" in row:
            study.note(row["note"])
    made = [row for row in plans if "entry" in row]
    if not made:
        volumes = [row["volume_mm3"] for row in plans if row.get("found")]
        study.note(none_of_volume(volumes, settings.volume))
        return Findings(_columns(study), [], [], None, tuple(study.notes))
    saliency = replace(study.saliency, aggregate="max")
    results = study.run("synthetic", [entry_of(row["entry"]) for row in made], saliency)
    found = list(_measured(study, made, results))
    rows = [row for row, _ in found]
    figure = panel_figure(*_shown(study, found)) if found else None
    return Findings(
        _columns(study), rows, _summary(rows, study.model.channels), figure, tuple(study.notes)
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
    original = Original(entry, prediction, study.model.channels, settings.white_matter)
    found = [each for each in prediction.instances if each.kind in FOUND]
    rows: list[Row] = [{"found": True, "volume_mm3": each.volume_mm3} for each in found]
    chosen = clearest(of_volume(found, settings.volume), prediction)[: settings.lesions]
    for instance in chosen:
        rng = np.random.default_rng([study.saliency.seed, instance.label])
        maker = _Maker(original, instance, settings, rng)
        for situation, derived in maker.made():
            name = f"{entry.id}: lesion {instance.label} {SITUATIONS[situation]}"
            if derived is None:
                rows.append({"note": f"{name}: there is no room for it; it is left out"})
                continue
            (scan,) = study.derive("synthetic", entry, original.grid, [derived])
            rows.append(
                {
                    "scan": entry.id,
                    "label": instance.label,
                    "kind": instance.kind,
                    "volume_mm3": instance.volume_mm3,
                    "situation": situation,
                    "entry": told(scan),
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

    def made(self) -> Iterator[tuple[str, Derived | None]]:
        """A scan per situation; None where there is no room for the lesion."""
        original, grid = self.original, self.original.grid
        omega = original.prediction.labels == self.instance.label
        yield "own", Derived(self._tag("own"), omega.astype(np.int32))
        bare = Graft.of(omega, 0, grid)
        yield "white", self._at("white", bare, self._place(original.white_matter, bare))
        more = Graft.of(omega, self.settings.surroundings, grid)
        background = distance_mm(original.head, grid) > OUTSIDE
        place = self._place(background, more)
        # The two lie at the same place, so that only the surroundings differ.
        shifted = None if place is None else place + bare.corner - more.corner
        yield "outside", self._at("outside", bare, shifted)
        yield "surrounded", self._at("surrounded", more, place)

    def _place(self, allowed: np.ndarray, graft: Graft) -> np.ndarray | None:
        free = places(allowed, graft.part)
        return free[self.rng.integers(len(free))] if len(free) else None

    def _at(self, situation: str, graft: Graft, corner: np.ndarray | None) -> Derived | None:
        if corner is None:
            return None
        images = grafted(self.original.images, graft, corner)
        labels = placed(graft.omega, corner, self.original.grid.shape).astype(np.int32)
        return Derived(self._tag(situation), labels, list(np.moveaxis(images, -1, 0)))

    def _tag(self, situation: str) -> str:
        return f"{situation}{self.instance.label}"


def _measured(
    study: Study, made: Sequence[Row], results: CohortResults
) -> Iterator[tuple[Row, ScanResults]]:
    """The table's rows, with the results that they are from; scans that failed have none."""
    scans = {scan.id: scan for scan in results.scans()}
    for plan in made:
        scan = scans.get(plan["entry"]["id"])
        if scan is None or not scan.rows:
            continue
        row = {key: plan[key] for key in COLUMNS if key in plan}
        inside = scan.probability[scan.labels > 0]
        highest = float(inside.max())
        row |= {key: scan.rows[0][key] for key in ("x_mm", "y_mm", "z_mm")}
        row |= {"score": float(inside.mean()), "highest": highest}
        row["detected"] = int(highest >= study.threshold)
        for channel in study.model.channels:
            for name in _PEAKS:
                row[f"{channel}_{name}"] = scan.rows[0][f"{channel}_{name}"]
        yield row, scan


def _summary(rows: Sequence[Row], channels: Sequence[str]) -> list[Row]:
    """Per situation: how many lesions, how many detected, medians of score and peaks."""
    told: list[Row] = []
    for situation, text in SITUATIONS.items():
        own = [row for row in rows if row["situation"] == situation]
        if not own:
            continue
        told.append(
            {
                "situation": text,
                "lesions": len(own),
                "detected": sum(row["detected"] for row in own),
                "score (median)": float(np.median([row["score"] for row in own])),
            }
        )
        for channel in channels:
            for name in ("max", "min"):
                values = [row[f"{channel}_{name}"] for row in own]
                told[-1][f"{channel} {name} (median)"] = float(np.median(values))
    return told


def _shown(
    study: Study, found: Sequence[tuple[Row, ScanResults]]
) -> tuple[list[PanelRow], tuple[str, ...], str]:
    """What the figure shows: the first lesion that was placed in most situations."""
    lesions: dict[Any, list[tuple[Row, ScanResults]]] = {}
    for row, scan in found:
        lesions.setdefault((row["scan"], row["label"]), []).append((row, scan))
    pairs = max(lesions.values(), key=len)
    (method,) = CohortResults(pairs[0][1].folder).methods.values()
    rows = []
    for row, scan in pairs:
        crop = scan.map(scan.rows[0]["label"], method)
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
