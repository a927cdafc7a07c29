"""Maps of domains that are no lesions: healthy white matter, and single voxels (Figs. 12, 13)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from jaxsal.cohort.results import ScanResults
from jaxsal.errors import require
from jaxsal.experiments.catalogue import Experiment
from jaxsal.experiments.choice import check_range, volume_option
from jaxsal.experiments.derived import Derived, derive, generator_of
from jaxsal.experiments.each_scan import entry_to_json
from jaxsal.experiments.findings import Findings
from jaxsal.experiments.placed import Opened, Original, begin, explained, plans_of
from jaxsal.experiments.regions import place_spheres, require_sphere_volume
from jaxsal.experiments.sanity_figure import sanity_figure
from jaxsal.experiments.statistics import FEWEST_IN_GROUP
from jaxsal.grid import Grid
from jaxsal.inputs.entries import Entry
from jaxsal.lesions import Instance
from jaxsal.options import option
from jaxsal.saliency.maps import Crop
from jaxsal.tables import Row

if TYPE_CHECKING:
    from jaxsal.experiments.study import Study
    from jaxsal.scan.prediction import Prediction

GROUPS = {
    "white": "healthy white matter",
    "TN": "anywhere in the head, no lesion",
    "lesion": "lesion",
    "voxel": "a lesion's middle voxel alone",
}
WITHIN_MM = (3.0, 6.0, 12.0)  # of the shells whose sums a cohort's table has

COLUMNS = {
    "scan": "what the scan is called",
    "group": ", ".join(f"{name}: {text}" for name, text in GROUPS.items()),
    "domain": "value in the label map of runs/sanity",
    "label": "value of the lesion in the scan's own label map",
    "voxels": "size of the domain",
    "volume_mm3": "its volume in mm³",
    "x_mm": "its centroid in world coordinates, mm",
    "y_mm": "its centroid in world coordinates, mm",
    "z_mm": "its centroid in world coordinates, mm",
}

SUMMARY_COLUMNS = {
    "domain": "group of domains",
    "n": "number of them",
    "channel": "with respect to which the maps are",
    "max": "median of the maps' largest values",
    "min": "median of the maps' smallest values",
    "max / lesion": "that median of the largest values over that of lesions",
    "inside": "median share of a map's magnitude in its domain",
    "in lesion": "median share in the lesion that the domain is of",
}


@dataclass(frozen=True)
class SanitySettings:
    """Settings of `sanity`.

    Attributes:
        volume: smallest and largest lesion to compare with, in mm³, both included.
        lesions: lesions per scan to compare with at most, those first that are seen most clearly.
        spheres: spheres per scan of white matter, and as many of what is no lesion (TN).
        sphere_volume: volume of a sphere, in mm³.
        white_matter: folder of masks of white matter, one per scan, named after the scan as its
            results are, such as sub-01.nii.gz. None: a rule on FLAIR and T1 finds it.
    """

    volume: tuple[float, float] = volume_option()
    lesions: int = option(3, "N")
    spheres: int = option(3, "N")
    sphere_volume: float = option(93.0, "MM3")
    white_matter: str | None = option(None, "DIR")

    def __post_init__(self) -> None:
        check_range("volume", self.volume)
        require(self.lesions >= 1, "lesions", "1 or more", self.lesions)
        require(self.spheres >= 1, "spheres", "1 or more", self.spheres)
        require_sphere_volume(self.sphere_volume)


def sanity(study: Study, settings: SanitySettings) -> Findings:
    """Peaks of maps of white matter, of lesions and of a lesion's voxel, and where they lie.

    Source: Spagnolo et al. 2026, "Sanity checks", Figs. 12 and 13.
    """
    plans = plans_of(study, "sanity", settings, partial(_of_scan, study, settings))
    if not plans:
        return Findings(_columns(study), [], [], None, tuple(study.notes))
    opened = Opened(explained(study, "sanity", plans))
    found = list(_measured(study, plans, opened))
    rows = [row for row, _ in found]
    summary = _summary(rows, study.model.channels)
    for row in summary:
        if row["n"] < FEWEST_IN_GROUP:
            study.note(f"{row['domain']}: medians are those of {row['n']}, which shows little")
    shown = _examples(found, opened)
    figure = sanity_figure(shown, rows, GROUPS, study.model.channels) if shown else None
    return Findings(_columns(study), rows, summary, figure, tuple(study.notes), SUMMARY_COLUMNS)


def _columns(study: Study) -> dict[str, str]:
    columns = dict(COLUMNS)
    for channel in study.model.channels:
        columns |= {
            f"{channel}_max": f"largest value of the map, {channel}",
            f"{channel}_min": f"smallest value of the map, {channel}",
            f"{channel}_inside": f"share of the map's magnitude in the domain, {channel}",
            f"{channel}_in_lesion": f"share in the lesion that the domain is of, {channel}",
        }
        for mm in WITHIN_MM:
            meaning = f"share in the domain and within {mm:g} mm of it, {channel}"
            columns[f"{channel}_within_{mm:g}mm"] = meaning
    return columns


def _of_scan(
    study: Study, settings: SanitySettings, entry: Entry, prediction: Prediction
) -> list[Row]:
    """Writes the domains; a row for each, for every lesion found, and for what has no room."""
    original, chosen, rows = begin(study, settings, entry, prediction)
    domains, groups = _domains(study, settings, original, chosen)
    for group in ("white", "TN"):
        number = list(groups.values()).count(group)
        if number < settings.spheres:
            reason = original.white_matter[1] if group == "white" else ""
            room = f"there is room for {number} of {settings.spheres} spheres"
            rows.append({"note": f"{entry.id}: {GROUPS[group]}: {reason or room}"})
    voxels = np.zeros_like(domains)
    for instance in chosen:
        centre = middle_voxel(prediction.labels == instance.label, original.grid)
        voxels[tuple(centre)] = instance.label
    derived = [Derived("domains", domains), Derived("voxels", voxels)]
    by_id = {scan.id: scan for scan in derive(study, "sanity", entry, original.grid, derived)}
    lesion_of = {
        domain: instance.label
        for domain, instance in zip(
            [d for d, g in groups.items() if g == "lesion"], chosen, strict=True
        )
    }
    for domain, group in groups.items():
        row = {"group": group, "domain": domain, "label": lesion_of.get(domain)}
        rows.append({"scan": entry.id, **row, "entry": entry_to_json(by_id[f"{entry.id} domains"])})
    for domain, label in lesion_of.items():
        row = {"group": "voxel", "domain": label, "label": label, "lesion_domain": domain}
        rows.append({"scan": entry.id, **row, "entry": entry_to_json(by_id[f"{entry.id} voxels"])})
    return rows


def _domains(
    study: Study, settings: SanitySettings, original: Original, chosen: Sequence[Instance]
) -> tuple[np.ndarray, dict[int, str]]:
    """Labels (X, Y, Z) int32 of spheres and lesions, and the group of each."""
    rng = generator_of(original.entry, study.saliency.seed)
    labels = np.zeros(original.grid.shape, np.int32)
    groups: dict[int, str] = {}
    for group, allowed in (("white", original.white_matter[0]), ("TN", original.head)):
        taken = original.suspicious | (labels > 0)
        spheres = place_spheres(
            allowed, taken, settings.sphere_volume, settings.spheres, original.grid, rng
        )
        labels = np.where(spheres > 0, spheres + len(groups), labels)
        groups |= {len(groups) + 1 + i: group for i in range(int(spheres.max(initial=0)))}
    for instance in chosen:
        groups[len(groups) + 1] = "lesion"
        labels[original.prediction.labels == instance.label] = len(groups)
    return labels.astype(np.int32), groups


def middle_voxel(omega: np.ndarray, grid: Grid) -> np.ndarray:
    """The voxel (3,) of a domain (X, Y, Z) that is nearest to its centre of mass, in mm."""
    voxels = np.argwhere(omega)
    away = (voxels - voxels.mean(0)) * grid.spacing
    nearest: np.ndarray = voxels[np.argmin((away**2).sum(1).round(9))]
    return nearest


def _measured(study: Study, plans: Sequence[Row], opened: Opened) -> Iterator[tuple[Row, str]]:
    """The table's rows, each with its scan's name in the run; scans that failed have none."""
    for scan, own_plans in opened.one_by_one(plans):
        lesions = _lesions(scan, own_plans[0], opened)
        for plan in own_plans:
            own = next((row for row in scan.rows if row["label"] == plan["domain"]), None)
            if own is None:  # it has no map; the run's notes say why
                continue
            row = {key: own[key] for key in COLUMNS if key in own} | {
                key: plan[key] for key in COLUMNS if key in plan
            }
            lesion = None
            if plan["label"] is not None and lesions is not None:
                lesion = lesions == plan.get("lesion_domain", plan["domain"])
            crop = scan.map(plan["domain"], opened.method)
            for c, channel in enumerate(study.model.channels):
                row |= {f"{channel}_{name}": own[f"{channel}_{name}"] for name in ("max", "min")}
                row |= _shares(own, channel)
                row[f"{channel}_in_lesion"] = _share(crop, c, lesion)
            yield row, scan.id


def _lesions(scan: ScanResults, plan: Row, opened: Opened) -> np.ndarray | None:
    """Labels (X, Y, Z) of whole lesions; None for single voxels if their lesions' maps failed."""
    if plan["group"] != "voxel":
        return scan.labels
    whole = opened.scan(f"{plan['scan']} domains")
    return None if whole is None else whole.labels


def _examples(
    found: Sequence[tuple[Row, str]], opened: Opened
) -> list[tuple[ScanResults, Row, Crop]]:
    """The first domain of each group."""
    first = {row["group"]: (row, name) for row, name in reversed(found)}
    examples = []
    for row, name in (first[group] for group in GROUPS if group in first):
        scan = opened.scan(name)
        assert scan is not None  # it was measured
        examples.append((scan, row, scan.map(row["domain"], opened.method)))
    return examples


def _shares(own: Row, channel: str) -> Row:
    """Shares of a map's magnitude by distance, from the sums in the cohort's table."""

    def magnitude(place: str) -> float:
        return float(own[f"{channel}_positive_{place}"] - own[f"{channel}_negative_{place}"])

    places = [
        key.removeprefix(f"{channel}_positive_")
        for key in own
        if key.startswith(f"{channel}_positive_") and not key.endswith("_share")
    ]
    total = sum(map(magnitude, places))
    within = magnitude("inside")
    shares = {f"{channel}_inside": within / total if total else None}
    for mm in WITHIN_MM:
        within += magnitude(f"to_{mm:g}mm")
        shares[f"{channel}_within_{mm:g}mm"] = within / total if total else None
    return shares


def _share(crop: Crop, channel: int, lesion: np.ndarray | None) -> float | None:
    """Share of a map's magnitude in a lesion (X, Y, Z)."""
    values = np.abs(crop.values[..., channel], dtype=np.float64)
    if lesion is None or not values.any():
        return None
    return float(values[crop.box.cut(lesion)].sum() / values.sum())


def _summary(rows: Sequence[Row], channels: Sequence[str]) -> list[Row]:
    """Medians per group and channel, and what part of the lesions' peak the others' is."""
    found: list[Row] = []
    for group, channel in product(GROUPS, channels):
        own, lesions = ([row for row in rows if row["group"] == name] for name in (group, "lesion"))
        if not own:
            continue
        highest, peak = (_median(each, f"{channel}_max") for each in (own, lesions))
        found.append(
            {
                "domain": GROUPS[group],
                "n": len(own),
                "channel": channel,
                "max": highest,
                "min": _median(own, f"{channel}_min"),
                "max / lesion": highest / peak if peak and highest is not None else None,
                "inside": _median(own, f"{channel}_inside"),
                "in lesion": _median(own, f"{channel}_in_lesion"),
            }
        )
    return found


def _median(rows: Sequence[Row], key: str) -> float | None:
    values = [row[key] for row in rows if row[key] is not None]
    return float(np.median(values)) if values else None


EXPERIMENT = Experiment(sanity, SanitySettings, uses_maps=False)
