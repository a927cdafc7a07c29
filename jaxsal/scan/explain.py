"""The saliency maps of one scan's lesions."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from jaxsal.model import Model
from jaxsal.report.figures import lesion_figure, save_figure
from jaxsal.report.page import write_page
from jaxsal.saliency.maps import Crop
from jaxsal.saliency.progress import OnProgress
from jaxsal.scan.defaults import completed
from jaxsal.scan.explanations import Explanations, in_effect, maps_of, to_explain
from jaxsal.scan.loading import Scan, load_scan, warn_of
from jaxsal.scan.methods import Appearance, appearance
from jaxsal.scan.output_folder import OutputFolder
from jaxsal.scan.predict import (
    OnStage,
    Prediction,
    find_lesions,
    unsegmented,
    write_prediction,
)
from jaxsal.scan.provenance import RunRecord
from jaxsal.scan.results import (
    INSTANCE_COLUMNS,
    Row,
    for_reading,
    instance_columns,
    parts_of,
    write_maps,
    write_table,
)
from jaxsal.settings import ExplainSettings, PredictSettings


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
    prediction_settings = completed(prediction_settings, model)
    settings = in_effect(settings, prediction_settings, model)
    shown = appearance(settings, model.channels)
    with OutputFolder(out, overwrite=overwrite) as results:
        run = RunRecord("explain", model, scan.roles(model.channels))
        on_stage("finding lesions")
        loaded = load_scan(scan, model)
        run.saw(loaded.backgrounds)
        warn_of(loaded.notes)
        prediction = find_lesions(model, loaded, prediction_settings)
        wanted = to_explain(prediction, settings)
        warn_of((*unsegmented(model, prediction), *wanted.notes))
        write_prediction(results, prediction)
        on_stage("explaining")
        rows = [
            _write_one(results, model, prediction, wanted, label, crop, settings, shown)
            for label, crop in maps_of(
                model, prediction, wanted, prediction_settings, settings, on_progress
            )
        ]
        columns = [*INSTANCE_COLUMNS, *shown.table_columns()]
        write_table(results.path("instances.tsv"), columns, rows)
        facts = _facts(prediction, prediction_settings, settings)
        record = run.finished(facts)
        if settings.pictures:
            write_page(
                results.path("index.html"),
                f"Lesions of {_place(scan.images[0])}",
                for_reading(rows),
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


def _facts(
    prediction: Prediction, prediction_settings: PredictSettings, settings: ExplainSettings
) -> dict[str, dict[str, Any]]:
    """What took effect, one level deep."""
    others = asdict(settings)
    saliency = {**others.pop("saliency"), "method": settings.method, **others}
    return {"prediction": prediction.facts(prediction_settings), "saliency": saliency}


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
    for ending, part in parts_of(crop):
        paths = [results.path(f"{name}{ending}.nii.gz") for name in names]
        write_maps(paths, prediction.scan.grid, part, full_grid=settings.full_grid)
    row: Row = {**explained.row, **shown.row(crop, wanted.labels == label)}
    if settings.pictures:
        row["picture"] = f"pictures/{explained.stem}.png"
        figure = lesion_figure(
            prediction.scan.image,
            wanted.labels,
            None if settings.level == "class" else label,
            crop.values,
            crop.origin,
            prediction.scan.grid,
            model.channels,
            f"{explained.title}{shown.subtitle}",
            shown.units,
            shown.scale,
        )
        save_figure(figure, results.path(row["picture"]))
    return row
