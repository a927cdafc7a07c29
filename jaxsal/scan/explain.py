"""The saliency maps of one scan's lesions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from jaxsal.lesions import Instance, select
from jaxsal.model import Model
from jaxsal.report.figures import lesion_figure, save_figure
from jaxsal.report.page import write_page
from jaxsal.saliency.maps import Crop
from jaxsal.saliency.smoothgrad import OnProgress, smoothgrad_stream
from jaxsal.scan.output_folder import OutputFolder
from jaxsal.scan.predict import OnStage, Prediction, Scan, find_lesions, make_field
from jaxsal.scan.results import (
    Row,
    RunRecord,
    class_row,
    instance_row,
    page_columns,
    write_maps,
    write_prediction,
    write_table,
)
from jaxsal.scan.statistics import map_statistics
from jaxsal.settings import ExplainSettings, PredictSettings


@dataclass(frozen=True)
class Explained:
    """What one map is about.

    Attributes:
        stem: of the names of its files.
        title: of its picture.
        label: of the lesion; None at class level.
        row: of the table, without the map's statistics.
        domain: (X, Y, Z) bool, the lesion domain.
    """

    stem: str
    title: str
    label: int | None
    row: Row
    domain: np.ndarray


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
    with OutputFolder(out, overwrite=overwrite) as results:
        run = RunRecord("explain", model, [*scan.images, scan.reference, scan.instances])
        on_stage("finding lesions")
        prediction = find_lesions(model, scan, prediction_settings)
        chosen = select(prediction.instances, settings.labels)
        write_prediction(results, prediction.grid, prediction.probability, prediction.labels)
        on_stage("explaining")
        field_settings = replace(prediction_settings, field=settings.field)
        maps = _maps(model, prediction, chosen, field_settings, settings, on_progress)
        rows = [
            _write_one(results, model, prediction, explained, crop, settings)
            for explained, crop in maps
        ]
        write_table(results.path("instances.tsv"), rows, model.channels)
        facts = {"prediction": asdict(prediction_settings), "saliency": asdict(settings)}
        record = run.finished(facts)
        if settings.pictures:
            write_page(
                results.path("index.html"),
                f"Lesions of {scan.images[0].name}",
                rows,
                page_columns(model.channels),
                {
                    "Run": run.summary(),
                    "Prediction": facts["prediction"],
                    "Saliency": facts["saliency"],
                },
            )
        results.commit(record)
    return rows


def _maps(
    model: Model,
    prediction: Prediction,
    chosen: list[Instance],
    field_settings: PredictSettings,
    settings: ExplainSettings,
    on_progress: OnProgress | None,
) -> Iterator[tuple[Explained, Crop]]:
    """Each map with what it is about, as soon as it is computed."""
    if settings.level == "class":
        domain = prediction.probability >= prediction.threshold
        explained = {1: _class_level(prediction, domain)} if domain.any() else {}
        labels = domain.astype(np.int32)
    else:
        explained = {i.label: _instance_level(prediction, i) for i in chosen}
        labels = np.where(np.isin(prediction.labels, list(explained)), prediction.labels, 0)
    crops = smoothgrad_stream(
        make_field(model, field_settings),
        prediction.image,
        labels,
        target=field_settings.target,
        aggregate="sum" if settings.level == "class" else settings.aggregate,
        samples=settings.samples,
        noise=settings.noise,
        noise_scale=settings.noise_scale,
        seed=settings.seed,
        memory=settings.memory,
        on_progress=on_progress,
    )
    for label, crop in crops:
        yield explained[label], crop


def _instance_level(prediction: Prediction, instance: Instance) -> Explained:
    size = f"{instance.volume_mm3:.0f} mm³"
    return Explained(
        stem=f"lesion-{instance.label:04d}",
        title=f"Lesion {instance.label} ({instance.kind}, {size})",
        label=instance.label,
        row=instance_row(instance),
        domain=prediction.labels == instance.label,
    )


def _class_level(prediction: Prediction, domain: np.ndarray) -> Explained:
    row = class_row(domain, prediction.grid)
    return Explained("class", "All segmented voxels", None, row, domain)


def _write_one(
    results: OutputFolder,
    model: Model,
    prediction: Prediction,
    explained: Explained,
    crop: Crop,
    settings: ExplainSettings,
) -> Row:
    """Writes one map and its picture; returns its row of the table."""
    names = [
        f"maps/{explained.stem}_{channel}_{settings.name}.nii.gz" for channel in model.channels
    ]
    write_maps(results, names, prediction.grid, crop, full_grid=settings.full_grid)
    row: dict[str, Any] = {**explained.row, "samples": crop.samples}
    for channel, values in zip(model.channels, map_statistics(crop, explained.domain), strict=True):
        row.update({f"{channel}_{name}": value for name, value in values.items()})
    if settings.pictures:
        row["picture"] = f"pictures/{explained.stem}.png"
        figure = lesion_figure(
            prediction.image,
            prediction.labels if explained.label is not None else explained.domain.astype(int),
            explained.label,
            crop.values,
            crop.origin,
            prediction.grid,
            model.channels,
            explained.title,
        )
        save_figure(figure, results.path(row["picture"]))
    return row
