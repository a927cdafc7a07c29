"""How much of a neighbour shows in a lesion's map, by the gap between their borders."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxsal.errors import require
from jaxsal.experiments.adjacency_figure import draw
from jaxsal.experiments.adjacency_gaps import copies_beside, moved, pairs_within
from jaxsal.experiments.adjacency_summary import SUMMARY_COLUMNS, summary_of, untested_below
from jaxsal.experiments.catalogue import Experiment
from jaxsal.experiments.choice import (
    FOUND,
    check_range,
    clearest,
    none_of_volume,
    of_volume,
    volume_option,
)
from jaxsal.experiments.derived import generator_of
from jaxsal.experiments.direct import (
    about_lesion,
    each_lesion,
    exact,
    map_of,
    maximum,
    note_approximated,
    saliency_identity,
)
from jaxsal.experiments.each_scan import each_scan
from jaxsal.experiments.findings import Findings
from jaxsal.experiments.levels_neighbours import values_at, voxels_of
from jaxsal.experiments.maps_by_method import maps_by, settings_of
from jaxsal.experiments.placed import Original
from jaxsal.experiments.statistics import few_at_most, few_patients, too_few
from jaxsal.experiments.synthetic_grafts import Graft, grafted
from jaxsal.options import option

if TYPE_CHECKING:
    from jaxsal.cohort.results import ScanResults
    from jaxsal.experiments.study import Study
    from jaxsal.inputs.entries import Entry
    from jaxsal.lesions import Instance
    from jaxsal.saliency.maps import Crop
    from jaxsal.scan.prediction import Prediction
    from jaxsal.settings import MethodSettings
    from jaxsal.tables import Row

COLUMNS = {
    "source": SUMMARY_COLUMNS["source"],
    "scan": "what the scan is called in the cohort",
    "subject": "the patient",
    "label": "value in the label map of the lesion A that is explained",
    "voxels": "its size in voxels",
    "volume_mm3": "its volume in mm³",
    "neighbour": "label of the other lesion B; empty: the copy",
    "gap_mm": "between the borders of A and B in mm: what lies between their voxels",
    "method": "max: signed maximum (Eq. 3); mean: Eq. 2; gradcam++: at the layer that is given",
    "channel": "with respect to which the map is; heat: a heat map has one only",
    "own_peak": "largest magnitude of A's map within A",
    "neighbour_peak": "largest magnitude of A's map within B",
    "bleed": "the second over the first",
    "mass_share": "sum of the magnitudes of A's map within B over that of the whole map",
}


_LESION = ("scan", "subject", "label", "voxels", "volume_mm3")
HEAT, CAM = "heat", "gradcam++"


def _gaps(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(each) for each in text.split(","))
    except ValueError as error:
        raise ValueError("must be gaps in mm with commas between, such as 1,2,5,10") from error


@dataclass(frozen=True)
class AdjacencySettings:
    """Settings of `adjacency`.

    Attributes:
        volume: smallest and largest lesion that is copied, in mm³, both included.
        lesions: lesions per scan that are copied at most, those first that are seen most clearly.
        gaps: gaps between a lesion and its copy, in mm; copies are moved by whole voxels.
        reach: largest gap between two real lesions, in mm.
        layer: for Grad-CAM++, as in `explain`. None: without Grad-CAM++.
    """

    volume: tuple[float, float] = volume_option()
    lesions: int = option(3, "N")
    gaps: tuple[float, ...] = option(
        (1.0, 2.0, 3.0, 5.0, 7.0, 10.0, 15.0, 20.0), "MM,MM", parse=_gaps, shown="1,2,…,20"
    )
    reach: float = option(20.0, "MM")
    layer: str | None = option(None, "NAME")

    def __post_init__(self) -> None:
        check_range("volume", self.volume)
        require(self.lesions >= 0, "lesions", "0 or more", self.lesions)
        sensible = len(self.gaps) > 0 and all(0 < gap <= 100 for gap in self.gaps)
        require(sensible, "gaps", "more than 0 and at most 100 mm each", self.gaps)
        require(0 <= self.reach <= 100, "reach", "0 to 100 mm", self.reach)


def adjacency(study: Study, settings: AdjacencySettings) -> Findings:
    """Bleed between lesions that lie side by side, real ones and copies, against their gap.

    Raises:
        InputError: the network has no such layer.
    """
    methods = methods_of(study, settings)
    few = few_at_most(settings.lesions or None, len(study.entries))
    study.say(few and f"copies: {few}")
    if settings.layer is None:
        study.note("without Grad-CAM++: --layer names the layer that it is computed at")
    rows = [*_real(study, settings, methods), *_copies(study, settings, methods)]
    if not rows:
        study.note_none("there are no two lesions side by side: there is nothing to compare")
        return Findings(COLUMNS, [], [], None, tuple(study.notes))
    study.note(few_patients(len({row["subject"] for row in rows})))
    summary = summary_of(rows)
    numbers = [row["n"] for row in summary if "value" in row or "difference" in row]
    study.note(too_few(numbers, "pair"))
    for sentence in untested_below(summary):
        study.note(sentence)
    figure = draw(rows)
    return Findings(COLUMNS, rows, summary, figure, tuple(study.notes), SUMMARY_COLUMNS)


def methods_of(study: Study, settings: AdjacencySettings) -> dict[str, MethodSettings]:
    """The methods that are compared, by name."""
    methods: dict[str, MethodSettings] = {
        "max": maximum(study),
        "mean": exact(study.saliency, "mean"),
    }
    if settings.layer is not None:
        methods[CAM] = settings_of(study, CAM, settings.layer)
    return methods


def _real(
    study: Study, settings: AdjacencySettings, methods: Mapping[str, MethodSettings]
) -> list[Row]:
    """Both maps of each pair of segmented lesions, from runs that other experiments share."""
    runs = {"max": study.lesions()}
    runs["mean"] = study.run("lesions-mean", study.entries, exact(study.saliency, "mean"))
    if CAM in methods:
        runs[CAM] = maps_by(study, methods[CAM])
    opened = {name: {s.record.stem: s for s in run.scans()} for name, run in runs.items()}
    outlines = {name: next(iter(run.methods.values())) for name, run in runs.items()}
    rows: list[Row] = []
    study.monitor.stage("adjacency")
    for stem, scan in opened["max"].items():
        pairs = _pairs(scan, settings.reach)
        for method in runs:
            if stem in opened[method]:
                read = partial(opened[method][stem].map, method=outlines[method])
                rows += _of_pairs(scan, pairs, method, read)
        study.monitor.detail(f"{scan.id}: {len(rows)} rows")
    return rows


@dataclass(frozen=True, eq=False)
class _Pairs:
    """Lesions of a scan: voxels (V, 3) by label; gaps in mm by the labels of A and B."""

    voxels: dict[int, np.ndarray]
    gaps: dict[int, dict[int, float]]


def _pairs(scan: ScanResults, reach: float) -> _Pairs:
    wanted = {row["label"] for row in scan.rows if row["kind"] != "FN"}
    voxels = {label: part for label, part in voxels_of(scan.labels).items() if label in wanted}
    gaps: dict[int, dict[int, float]] = {label: {} for label in voxels}
    for one, other, gap in pairs_within(voxels, scan.grid.spacing, reach):
        gaps[one][other] = gaps[other][one] = gap
    return _Pairs(voxels, gaps)


def _of_pairs(scan: ScanResults, pairs: _Pairs, method: str, read: Any) -> Iterator[Row]:
    for row in scan.rows:
        near = pairs.gaps.get(row["label"])
        if not near:
            continue
        crop = read(row["label"])
        for other, gap in near.items():
            about = {key: row[key] for key in _LESION}
            about |= {"source": "real", "neighbour": other, "gap_mm": gap, "method": method}
            own, theirs = pairs.voxels[row["label"]], pairs.voxels[other]
            yield from bleeding(about, crop, own, theirs, scan.channels)


def bleeding(
    about: Row, crop: Crop, own: np.ndarray, other: np.ndarray, channels: Sequence[str]
) -> Iterator[Row]:
    """Rows of a map (x, y, z, C), one per channel: how much of it lies in another lesion.

    Args:
        about: what is known of the pair.
        crop: the map of lesion A.
        own: voxels (V, 3) of A.
        other: those of B.
        channels: names of the image's channels.
    """
    mine, theirs = (np.abs(values_at(crop, voxels)) for voxels in (own, other))
    whole = np.abs(crop.values).sum((0, 1, 2), dtype=np.float64)
    names = [HEAT] if about["method"] == CAM else channels
    for index, channel in enumerate(names):
        peak, beside = float(mine[:, index].max()), float(theirs[:, index].max())
        mass = float(theirs[:, index].sum(dtype=np.float64))
        yield {
            **about,
            "channel": channel,
            "own_peak": peak,
            "neighbour_peak": beside,
            "bleed": beside / peak if peak else None,
            "mass_share": mass / float(whole[index]) if whole[index] else None,
        }


def _copies(
    study: Study, settings: AdjacencySettings, methods: Mapping[str, MethodSettings]
) -> list[Row]:
    """Maps of lesions that have a copy of themselves beside them."""
    if not settings.lesions:
        return []
    identity = {**asdict(settings), **saliency_identity(study)}
    compute = partial(_of_scan, study, settings, methods)
    rows = each_scan(study, "adjacency", identity, compute)
    found = [{**row, "source": "copy"} for row in rows if "method" in row]
    note_approximated(study, found)
    if not found:
        volumes = [row["volume_mm3"] for row in rows if row.get("found")]
        study.note_none(none_of_volume(volumes, settings.volume))
    study.note(moved((row["gap_mm"] for row in found), settings.gaps))
    return found


def _of_scan(
    study: Study,
    settings: AdjacencySettings,
    methods: Mapping[str, MethodSettings],
    entry: Entry,
    prediction: Prediction,
) -> list[Row]:
    instances = [each for each in prediction.instances if each.kind in FOUND]
    chosen = clearest(of_volume(instances, settings.volume), prediction)[: settings.lesions]
    original = Original(entry, prediction, study.model.channels)
    compute = partial(_of_lesion, study, settings, methods, original)
    kept = {"gaps": settings.gaps, "layer": settings.layer}
    rows = each_lesion(study, "adjacency", kept, entry, prediction, chosen, compute)
    return [*rows, *({"found": True, "volume_mm3": each.volume_mm3} for each in instances)]


def _of_lesion(
    study: Study,
    settings: AdjacencySettings,
    methods: Mapping[str, MethodSettings],
    original: Original,
    lesion: Instance,
) -> list[Row]:
    entry, prediction = original.entry, original.prediction
    omega = prediction.labels == lesion.label
    graft = Graft.of(omega, 0, original.grid)
    seen = prediction.scan.box  # what the network is given
    allowed = seen.cut(original.head & ~(original.suspicious & ~omega))
    allowed = seen.place(allowed, omega.shape)
    rng = generator_of(entry, study.saliency.seed, lesion.label)
    copies = copies_beside(graft, allowed, settings.gaps, original.grid, rng)
    rows: list[Row] = []
    if len(copies) < len(settings.gaps):
        some = f"copies of lesion {lesion.label} lie at {len(copies)} of {len(settings.gaps)} gaps"
        why = "for others there is no room, or voxels are too large"
        rows.append({"note": f"{entry.id}: {some}: {why}"})
    own, inside = np.argwhere(omega), np.argwhere(graft.omega)
    for _, gap, corner in copies:
        image = grafted(prediction.scan.image, graft, corner)
        for method, saliency in methods.items():
            about = {
                **about_lesion(entry, lesion),
                "neighbour": None,
                "gap_mm": gap,
                "method": method,
            }
            crop = map_of(study, prediction, omega, saliency, image=image)
            rows += bleeding(about, crop, own, inside + corner, study.model.channels)
    return rows


EXPERIMENT = Experiment(adjacency, AdjacencySettings)
