"""Explains the lesions of one scan, and forecasts what that takes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from jaxsal.devices import default_devices
from jaxsal.inputs.entries import Scan
from jaxsal.model import Model
from jaxsal.progress import OnNote, OnProgress, OnStage
from jaxsal.saliency.maps import Crop
from jaxsal.saliency.memory import default_budget
from jaxsal.scan.amount import (
    Amount,
    Duration,
    Following,
    Known,
    amount_of,
    compute_portions,
    kept_rows,
)
from jaxsal.scan.call import Call
from jaxsal.scan.portions import Portions
from jaxsal.scan.prediction import write_prediction
from jaxsal.scan.unfinished import Unfinished
from jaxsal.scan.writing import write_lesion, write_run
from jaxsal.settings import ExplainSettings, PredictSettings
from jaxsal.store.output_folder import OutputFolder
from jaxsal.tables import Row


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
        overwrite: begin anew where earlier runs left results; see `jaxsal.store`.
        on_stage: called with what is being done.
        on_progress: called as gradients are computed, with those of all maps.
        on_note: called with sentences: how many gradients there are, before the first; then how
            long they take.

    Returns:
        The rows of the table, one per explained lesion.

    Raises:
        InputError: a file, the folder or a setting cannot be worked with.
        OutputError: a result cannot be written.
    """
    call = Call(model, scan, prediction_settings, settings)
    with OutputFolder(out, overwrite=overwrite) as results:
        run, identity = call.record()
        unfinished = Unfinished(out)
        with unfinished.opened(identity, overwrite=overwrite):
            portions = call.find(on_stage)
            run.saw(portions.prediction.scan.backgrounds)
            write_prediction(results, portions.prediction)
            asked = call.settings.saliency.memory
            now = asked or default_budget(default_devices())
            before = unfinished.go_on(portions.wanted.domains, now)
            on_stage("explaining")
            following = Following(on_progress, on_note)
            portions = portions.within(asked or before)
            rows = _rows(portions, unfinished, results, following)
            write_run(results, portions, call.settings, scan, run, rows)
            unfinished.finish()
    return rows


def forecast(
    model: Model,
    scan: Scan,
    out: Path,
    prediction_settings: PredictSettings,
    settings: ExplainSettings,
    *,
    overwrite: bool = False,
    on_stage: OnStage = lambda stage: None,
    on_progress: OnProgress | None = None,
) -> tuple[Amount, Duration | None]:
    """Forecasts what `explain` with the same arguments takes; writes nothing.

    Lesions are found, and the first batches of gradients computed, for some seconds.

    Returns:
        What is to be computed, and how long that takes; None if there is nothing.

    Raises:
        InputError: as `explain` does.
    """
    call = Call(model, scan, prediction_settings, settings)
    OutputFolder(out, overwrite=overwrite).check()
    _, identity = call.record()
    unfinished = Unfinished(out)
    resumed = unfinished.is_of(identity, overwrite=overwrite)
    portions = call.find(on_stage, uncertain=False)
    resumed = resumed and unfinished.is_of_lesions(portions.wanted.domains)
    kept = kept_rows(portions, unfinished) if resumed else {}
    amount = amount_of(portions, kept)
    on_stage("measuring")
    following = Following(on_progress, lambda note: None, once=True)
    with suppress(Known):
        compute_portions(portions, kept, amount, following, lambda number, maps: deque(maps, 0))
    return amount, following.duration


def _rows(
    portions: Portions,
    unfinished: Unfinished,
    results: OutputFolder,
    following: Following,
) -> list[Row]:
    """The rows of all lesions; their maps and pictures are among the results then."""
    whole = portions.results
    rows = kept_rows(portions, unfinished)
    amount = amount_of(portions, rows)
    if amount.rows or amount.kept:
        following.on_note(str(amount))
    for number in rows:
        unfinished.hand_over(whole[number].files, results)

    def finish(number: int, maps: Iterator[tuple[int, Crop]]) -> None:
        lesions = whole[number]
        rows[number] = [write_lesion(results, portions, lesions[at], at, map_) for at, map_ in maps]
        unfinished.keep(number, rows[number], lesions.files, results)

    compute_portions(portions, dict(rows), amount, following, finish)
    return [row for number in sorted(rows) for row in rows[number]]
