"""What `explain` writes: of each lesion maps, picture and row, and the page of all."""

from __future__ import annotations

import io
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxsal.approximated import caption, is_approximated
from jaxsal.figures.canvas import save_figure, write_figure
from jaxsal.figures.lesion import lesion_figure
from jaxsal.report.page import write_page
from jaxsal.report.view import WHOLE_SCAN, Layer, ScanView
from jaxsal.saliency.maps import Crop
from jaxsal.scan.lesion_table import (
    APPROXIMATED,
    for_reading,
    instance_columns,
    statistics_row,
)
from jaxsal.scan.map_files import parts_of, write_maps
from jaxsal.scan.region_table import REGION_COLUMNS, REGIONS, all_regions, region_rows
from jaxsal.tables import Row, write_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from jaxsal.inputs.entries import Scan
    from jaxsal.scan.portions import LesionResults, Portions
    from jaxsal.scan.prediction import Prediction
    from jaxsal.scan.provenance import RunRecord
    from jaxsal.settings import ExplainSettings, PredictSettings
    from jaxsal.store.output_folder import OutputFolder


def write_lesion(
    results: OutputFolder, portions: Portions, lesion: LesionResults, label: int, crop: Crop
) -> Row:
    """Writes one map and its picture; returns its row of the table."""
    settings, grid = portions.settings, portions.prediction.scan.grid
    for ending, part in parts_of(crop):
        paths = [results.path(name) for name in lesion.maps(ending)]
        write_maps(paths, grid, part, full_grid=settings.full_grid)
    row = map_row(portions, lesion, label, crop)
    if lesion.picture:
        figure = lesion_picture(portions, label, crop, row)
        save_figure(figure, results.path(lesion.picture))
    return row


def map_row(portions: Portions, lesion: LesionResults, label: int, crop: Crop) -> Row:
    """A map's row of the table; with a parcellation, it holds the rows of regions, too."""
    statistics = statistics_row(lesion.shown, crop, portions.wanted.labels == label)
    parcellation = portions.prediction.scan.parcellation
    if parcellation is not None:
        name = portions.settings.name
        statistics[REGIONS] = region_rows(name, lesion.shown, crop, parcellation)
    return lesion.row(statistics)


def write_lesions_table(results: OutputFolder, portions: Portions, rows: list[Row]) -> None:
    """Writes the table of the explained lesions and, with a parcellation, that of regions."""
    write_table(results.path("instances.tsv"), table_columns(portions), rows)
    if portions.prediction.scan.parcellation is not None:
        keys = [column.key for column in REGION_COLUMNS]
        write_table(results.path("regions.tsv"), keys, all_regions(rows))


def table_columns(portions: Portions) -> list[str]:
    """The columns of the table of the explained lesions."""
    own = instance_columns(**portions.prediction.extras)
    return [*(column.key for column in own), *portions.shown.table_columns()]


def write_run(
    results: OutputFolder,
    portions: Portions,
    settings: ExplainSettings,
    scan: Scan,
    run: RunRecord,
    rows: list[Row],
) -> None:
    """Writes table, page and record, and has all results appear in the folder.

    Args:
        results: has the maps and pictures.
        portions: what was explained.
        settings: how, as was asked for.
        scan: the files.
        run: how it came about.
        rows: of the explained lesions.
    """
    write_lesions_table(results, portions, rows)
    facts = facts_of(portions.prediction, portions.finding, settings)
    record = run.finished(facts)
    if settings.pictures:
        write_lesions_page(results, portions, scan, run, facts, rows)
    results.commit(record)


def write_lesions_page(
    results: OutputFolder,
    portions: Portions,
    scan: Scan,
    run: RunRecord,
    facts: dict[str, dict[str, Any]],
    rows: list[Row],
) -> None:
    """Writes the page of the explained lesions."""
    own = instance_columns(**portions.prediction.extras)
    approximated = [APPROXIMATED] if any(map(is_approximated, rows)) else []
    write_page(
        results.path("index.html"),
        f"Lesions of {_place(scan.images[0])}",
        for_reading(rows),
        [*own, *approximated, *portions.shown.page_columns()],
        {
            "Run": run.summary(),
            "Files": run.files(),
            "Prediction": facts["prediction"],
            "Saliency": facts["saliency"],
            **({"Uncertainty": facts["uncertainty"]} if "uncertainty" in facts else {}),
        },
        scale=portions.shown.scale,
        level=portions.settings.level,
        found=len(portions.prediction.instances),
        view=scan_view(results, portions, scan) if portions.settings.view else None,
    )


def scan_view(results: OutputFolder, portions: Portions, scan: Scan) -> ScanView:
    """The files of the page's interactive view, all of which have been written."""
    shown, lesions = portions.shown, [each for part in portions.results for each in part.values()]
    kinds = {"": (portions.settings.name, shown.scale)}
    kinds |= {"_se": ("standard error", "sequential")} if shown.standard_error else {}
    layers = []
    for ending, (name, scale) in kinds.items():
        files: dict[int | None, list[Path]] = {
            int(lesion.explained.row["label"]): [results.path(n) for n in lesion.maps(ending)]
            for lesion in lesions
        }
        layers.append(Layer(name, shown.units, scale, files))
    for name, (title, units, _) in WHOLE_SCAN.items():
        path = results.path(f"{name}.nii.gz")
        if path.exists():
            layers.append(Layer(title, units, "sequential", {None: [path]}))
    whole = portions.settings.level == "class"
    images = dict(zip(portions.model.channels, scan.images, strict=True))
    return ScanView(images, results.path("instances.nii.gz"), layers, whole)


def _place(path: Path) -> str:
    """A file's name after its folder's, which differs between patients."""
    return "/".join(part for part in (path.parent.resolve().name, path.name) if part)


def facts_of(
    prediction: Prediction, finding: PredictSettings, settings: ExplainSettings
) -> dict[str, dict[str, Any]]:
    """What took effect, one level deep."""
    others = asdict(settings)
    uncertainty = others.pop("uncertainty")
    saliency = {**others.pop("saliency"), "method": settings.method, **others}
    facts = {"prediction": prediction.facts(finding), "saliency": saliency}
    return facts if uncertainty is None else {**facts, "uncertainty": uncertainty}


def lesion_picture(portions: Portions, label: int, crop: Crop, row: Row) -> Figure:
    """Draws a lesion's map.

    Args:
        portions: the scan and what is explained of it.
        label: of the lesion.
        crop: its map.
        row: the lesion's, of the table.
    """
    explained, scan = portions.wanted.maps[label], portions.prediction.scan
    shown = portions.shown
    return lesion_figure(
        scan.image,
        portions.wanted.labels,
        None if portions.settings.level == "class" else label,
        crop.values,
        crop.origin,
        scan.grid,
        portions.model.channels,
        f"{explained.title}{shown.subtitle}",
        shown.units,
        shown.scale,
        note=caption(row),
    )


def picture_seconds(portions: Portions) -> float:
    """How long a picture takes: that of a lesion with an empty map, drawn and thrown away."""
    label = next(iter(portions.wanted.maps))
    empty = Crop(np.zeros((1, 1, 1, len(portions.shown.maps)), np.float32), (0, 0, 0), 0)
    began = time.perf_counter()
    write_figure(lesion_picture(portions, label, empty, {}), io.BytesIO())
    return time.perf_counter() - began
