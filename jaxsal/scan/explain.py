"""The saliency maps of one scan's lesions."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from jaxsal.errors import InputError
from jaxsal.lesions import Instance, select
from jaxsal.model import Model
from jaxsal.report.figures import lesion_figure, save_figure
from jaxsal.report.page import write_page
from jaxsal.saliency.maps import Crop
from jaxsal.saliency.progress import OnProgress
from jaxsal.scan.methods import Appearance, appearance, compute_maps
from jaxsal.scan.output_folder import OutputFolder
from jaxsal.scan.predict import OnStage, Prediction, Scan, as_run, find_lesions, make_field
from jaxsal.scan.results import (
    Row,
    RunRecord,
    class_row,
    instance_columns,
    instance_row,
    write_maps,
    write_prediction,
    write_table,
)
from jaxsal.settings import ExplainSettings, PredictSettings, SmoothGradSettings
from jaxsal.types import Box


@dataclass(frozen=True)
class Explained:
    """What one map is about.

    Attributes:
        stem: of the names of its files.
        title: of its picture.
        row: of the table, without the map's statistics.
    """

    stem: str
    title: str
    row: Row


@dataclass(frozen=True)
class Explanations:
    """What is to be explained, and on which domains.

    Attributes:
        labels: (X, Y, Z) int32, the lesion domains by label.
        maps: what the map of each explained label is about.
    """

    labels: np.ndarray
    maps: dict[int, Explained]


def explain(
    model: Model,
    scan: Scan,
    out: Path,
    prediction_settings: PredictSettings,
    settings: ExplainSettings,
    *,
    overwrite: bool = False,
    on_stage: OnStage = lambda stage: None,
    on_progress: OnProgress | None = None,
) -> list[Row]:
    """Finds and explains a scan's lesions; writes what `predict` does, and maps and pictures.

    Returns:
        The rows of the table, one per explained lesion.

    Raises:
        InputError: a file, the folder or a setting cannot be worked with.
    """
    settings = _in_effect(settings, prediction_settings, model)
    shown = appearance(settings, model.channels)
    with OutputFolder(out, overwrite=overwrite) as results:
        run = RunRecord("explain", model, scan.roles(model.channels))
        on_stage("finding lesions")
        prediction = find_lesions(model, scan, prediction_settings)
        wanted = _wanted(prediction, settings, given=scan.instances is not None)
        write_prediction(results, prediction.grid, prediction.probability, prediction.labels)
        on_stage("explaining")
        field_settings = replace(prediction_settings, field=settings.field)
        rows = [
            _write_one(results, model, prediction, wanted, label, crop, settings, shown)
            for label, crop in _maps(
                model, prediction, wanted, field_settings, settings, on_progress
            )
        ]
        write_table(results.path("instances.tsv"), rows, shown.table_columns())
        facts = _facts(prediction, prediction_settings, settings)
        record = run.finished(facts)
        if settings.pictures:
            write_page(
                results.path("index.html"),
                f"Lesions of {_place(scan.images[0])}",
                rows,
                [*instance_columns(), *shown.page_columns()],
                {
                    "Run": run.summary(),
                    "Files": run.files(),
                    "Prediction": facts["prediction"],
                    "Saliency": facts["saliency"],
                },
                scale=shown.scale,
                level=settings.level,
            )
        results.commit(record)
    return rows


def _place(path: Path) -> str:
    """A file's name after its folder's, which tells patients apart."""
    return "/".join(part for part in (path.parent.resolve().name, path.name) if part)


def _in_effect(
    settings: ExplainSettings, prediction_settings: PredictSettings, model: Model
) -> ExplainSettings:
    """The settings as they take effect: with the prediction's target, and the layer's own name."""
    saliency = replace(settings.saliency, target=prediction_settings.target)
    if not isinstance(saliency, SmoothGradSettings):
        saliency = replace(saliency, layer=model.resolve_layer(saliency.layer))
    elif settings.level == "class":
        saliency = replace(saliency, aggregate="sum")
    return replace(settings, saliency=saliency)


def _facts(
    prediction: Prediction, prediction_settings: PredictSettings, settings: ExplainSettings
) -> dict[str, dict[str, Any]]:
    """What took effect, one level deep."""
    others = asdict(settings)
    saliency = {**others.pop("saliency"), "method": settings.method, **others}
    return {"prediction": prediction.facts(prediction_settings), "saliency": saliency}


def _wanted(prediction: Prediction, settings: ExplainSettings, *, given: bool) -> Explanations:
    """The lesions to explain; at class level all given ones, or all segmented voxels, as one."""
    inside = np.zeros(prediction.grid.shape, bool)
    inside[prediction.box] = True
    if settings.level == "class":
        domain = prediction.labels > 0 if given else prediction.probability >= prediction.threshold
        domain &= inside
        explained = {1: _class_level(prediction, domain)} if domain.any() else {}
        return Explanations(domain.astype(np.int32), explained)
    chosen = select(prediction.instances, settings.labels)
    unseen = {i.label for i in chosen} - set(np.unique(prediction.labels[inside]).tolist())
    if unseen:
        reason = (
            f"nothing to explain of lesion {', '.join(map(str, sorted(unseen)))}: all images are 0 "
            "there and around, which the network is never given"
        )
        if settings.labels is not None:
            raise InputError(f"{reason}; leave out of --labels")
        warnings.warn(f"{reason}; left out", stacklevel=2)
    seen = {i.label: _instance_level(i) for i in chosen if i.label not in unseen}
    return Explanations(prediction.labels, seen)


def _maps(
    model: Model,
    prediction: Prediction,
    wanted: Explanations,
    field_settings: PredictSettings,
    settings: ExplainSettings,
    on_progress: OnProgress | None,
) -> Iterator[tuple[int, Crop]]:
    """Each wanted label with its map."""
    labels = np.where(np.isin(wanted.labels, list(wanted.maps)), wanted.labels, 0)
    box = prediction.box
    model = as_run(model, field_settings)
    crops = compute_maps(
        model,
        make_field(model, field_settings),
        prediction.image[box],
        labels[box],
        settings,
        on_progress,
    )
    return ((label, _moved(crop, box)) for label, crop in crops)


def _moved(crop: Crop, box: Box) -> Crop:
    """A map of a part of the image as one of the image."""
    x, y, z = (o + part.start for o, part in zip(crop.origin, box, strict=True))
    return replace(crop, origin=(x, y, z))


def _instance_level(instance: Instance) -> Explained:
    size = f"{instance.volume_mm3:.0f} mm³"
    title = f"Lesion {instance.label} ({instance.kind}, {size})"
    return Explained(f"lesion-{instance.label:04d}", title, instance_row(instance))


def _class_level(prediction: Prediction, domain: np.ndarray) -> Explained:
    return Explained("class", "All segmented voxels", class_row(domain, prediction.grid))


def _write_one(
    results: OutputFolder,
    model: Model,
    prediction: Prediction,
    wanted: Explanations,
    label: int,
    crop: Crop,
    settings: ExplainSettings,
    shown: Appearance,
) -> Row:
    """Writes one map and its picture; returns its row of the table."""
    explained = wanted.maps[label]
    names = [f"maps/{explained.stem}_{name}" for name in shown.files]
    write_maps(results, names, prediction.grid, crop, full_grid=settings.full_grid)
    if crop.standard_error is not None:
        errors = replace(crop, values=crop.standard_error)
        names = [f"{name}_se" for name in names]
        write_maps(results, names, prediction.grid, errors, full_grid=settings.full_grid)
    row: Row = {**explained.row, **shown.row(crop, wanted.labels == label)}
    if settings.pictures:
        row["picture"] = f"pictures/{explained.stem}.png"
        figure = lesion_figure(
            prediction.image,
            wanted.labels,
            None if settings.level == "class" else label,
            crop.values,
            crop.origin,
            prediction.grid,
            model.channels,
            f"{explained.title}{shown.subtitle}",
            shown.units,
            shown.scale,
        )
        save_figure(figure, results.path(row["picture"]))
    return row
