"""The saliency maps of one scan's lesions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from jaxsal.approximated import is_approximated
from jaxsal.devices import default_devices
from jaxsal.figures.canvas import save_figure
from jaxsal.inputs.scan import Scan
from jaxsal.model import Model
from jaxsal.progress import OnProgress
from jaxsal.report.page import write_page
from jaxsal.saliency.maps import Crop
from jaxsal.saliency.memory import default_budget
from jaxsal.saliency.methods.appearance import Appearance
from jaxsal.scan.defaults import completed
from jaxsal.scan.following import Following, OnNote, amount_of, compute_portions, kept_rows
from jaxsal.scan.methods import appearance, in_effect
from jaxsal.scan.outcome import Outcome, outcomes
from jaxsal.scan.pictures import lesion_picture
from jaxsal.scan.portions import Portions, find_portions
from jaxsal.scan.predict import OnStage, Prediction, write_prediction
from jaxsal.scan.provenance import RunRecord
from jaxsal.scan.results import (
    APPROXIMATED,
    INSTANCE_COLUMNS,
    for_reading,
    instance_columns,
    parts_of,
    write_maps,
)
from jaxsal.scan.statistics import statistics_row
from jaxsal.scan.unfinished import Unfinished, identity_of
from jaxsal.settings import ExplainSettings, PredictSettings
from jaxsal.store.output_folder import OutputFolder
from jaxsal.tables import Row, write_table


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
    on_note: OnNote = lambda note: None,
) -> list[Row]:
    """Finds and explains a scan's lesions; writes what `predict` does, and maps and pictures.

    Lesions that are finished when it ends early, in whatever way, are kept in the folder; the same
    call goes on after them, and maps, table and pictures are the same, byte by byte.

    Args:
        model: the network.
        scan: the files.
        out: folder for the results.
        prediction_settings: how lesions are found.
        settings: which of them are explained, and how.
        overwrite: replace the results of an earlier run in the folder, and what an interrupted run
            of other settings or files kept there.
        on_stage: called with what is being done.
        on_progress: called as gradients are computed, with those of all maps.
        on_note: called with sentences: how many gradients there are, before the first; then how
            long they take.

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
        unfinished = Unfinished(out)
        identity = identity_of(run, prediction_settings, settings)
        with unfinished.opened(identity, overwrite=overwrite):
            portions = find_portions(model, scan, prediction_settings, settings, on_stage)
            prediction = portions.prediction
            run.saw(prediction.scan.backgrounds)
            write_prediction(results, prediction)
            asked = settings.saliency.memory
            now = asked or default_budget(default_devices())
            before = unfinished.go_on(portions.wanted.domains, now)
            on_stage("explaining")
            following = Following(on_progress, on_note)
            portions = portions.within(asked or before)
            rows = _rows(portions, unfinished, results, following, shown)
            columns = [*INSTANCE_COLUMNS, *shown.table_columns()]
            write_table(results.path("instances.tsv"), columns, rows)
            facts = _facts(prediction, prediction_settings, settings)
            record = run.finished(facts)
            if settings.pictures:
                _write_page(results, scan, run, facts, rows, shown, settings.level)
            results.commit(record)
            unfinished.finish()
    return rows


def _rows(
    portions: Portions,
    unfinished: Unfinished,
    results: OutputFolder,
    following: Following,
    shown: Appearance,
) -> list[Row]:
    """The rows of all lesions; their maps and pictures are among the results then."""
    whole = outcomes(portions, shown)
    rows = kept_rows(whole, unfinished)
    amount = amount_of(portions, rows)
    if amount.rows or amount.kept:
        following.on_note(str(amount))
    for number in rows:
        unfinished.hand_over(whole[number].files, results)

    def finish(number: int, maps: Iterator[tuple[int, Crop]]) -> None:
        lesions = whole[number]
        rows[number] = [_write_one(results, portions, lesions[at], at, crop) for at, crop in maps]
        unfinished.keep(number, rows[number], lesions.files, results)

    compute_portions(portions, dict(rows), amount, following, shown, finish)
    return [row for number in sorted(rows) for row in rows[number]]


def _write_page(
    results: OutputFolder,
    scan: Scan,
    run: RunRecord,
    facts: dict[str, dict[str, Any]],
    rows: list[Row],
    shown: Appearance,
    level: str,
) -> None:
    approximated = [APPROXIMATED] if any(map(is_approximated, rows)) else []
    write_page(
        results.path("index.html"),
        f"Lesions of {_place(scan.images[0])}",
        for_reading(rows),
        [*instance_columns(), *approximated, *shown.page_columns()],
        {
            "Run": run.summary(),
            "Files": run.files(),
            "Prediction": facts["prediction"],
            "Saliency": facts["saliency"],
        },
        scale=shown.scale,
        level=level,
    )


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
    results: OutputFolder, portions: Portions, outcome: Outcome, label: int, crop: Crop
) -> Row:
    """Writes one map and its picture; returns its row of the table."""
    shown, settings = outcome.shown, portions.settings
    grid, labels = portions.prediction.scan.grid, portions.wanted.labels
    for ending, part in parts_of(crop):
        paths = [results.path(name) for name in outcome.maps(ending)]
        write_maps(paths, grid, part, full_grid=settings.full_grid)
    row = outcome.row(statistics_row(shown, crop, labels == label))
    if outcome.picture:
        figure = lesion_picture(portions, label, crop, shown, row)
        save_figure(figure, results.path(outcome.picture))
    return row
