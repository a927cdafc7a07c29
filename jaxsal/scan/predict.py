"""Finds the lesions of one scan, and writes them into a folder."""

from __future__ import annotations

from pathlib import Path

from jaxsal.inputs.entries import Scan
from jaxsal.inputs.images import load_scan, warn_of
from jaxsal.model import Model
from jaxsal.progress import OnStage
from jaxsal.scan.lesion_table import INSTANCE_COLUMNS, instance_row
from jaxsal.scan.notes import notes_of
from jaxsal.scan.prediction import completed, find_lesions, write_prediction
from jaxsal.scan.provenance import RunRecord
from jaxsal.scan.unfinished import Unfinished
from jaxsal.settings import PredictSettings
from jaxsal.store.output_folder import OutputFolder
from jaxsal.tables import Row, write_table


def predict(
    model: Model,
    scan: Scan,
    out: Path,
    settings: PredictSettings,
    *,
    overwrite: bool = False,
    on_stage: OnStage = lambda stage: None,
) -> list[Row]:
    """Finds a scan's lesions and writes probability, label map, table and record into a folder.

    Args:
        model: the network.
        scan: the files.
        out: folder for the results.
        settings: how lesions are found.
        overwrite: begin anew where earlier runs left results; see `jaxsal.store`.
        on_stage: called with what is being done.

    Returns:
        The rows of the table, one per lesion.

    Raises:
        InputError: a file, the folder or a setting cannot be worked with.
        OutputError: a result cannot be written.
    """
    settings = completed(settings, model)
    unfinished = Unfinished(out)
    with OutputFolder(out, overwrite=overwrite) as results:
        unfinished.require_none(overwrite=overwrite)
        run = RunRecord("predict", model, scan.roles(model.channels))
        on_stage("finding lesions")
        loaded = load_scan(scan, model.channels, model.preprocessing)
        run.saw(loaded.backgrounds)
        prediction = find_lesions(model, loaded, settings)
        warn_of(notes_of(model, prediction))
        rows = [instance_row(instance) for instance in prediction.instances]
        write_prediction(results, prediction)
        write_table(results.path("instances.tsv"), list(INSTANCE_COLUMNS), rows)
        results.commit(run.finished({"prediction": prediction.facts(settings)}))
        unfinished.discard()
    return rows
