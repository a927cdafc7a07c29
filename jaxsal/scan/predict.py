"""Finds the lesions of one scan, and writes them into a folder."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from jaxsal.inputs.entries import Scan
from jaxsal.inputs.images import load_scan, warn_of
from jaxsal.model import Model
from jaxsal.progress import OnStage
from jaxsal.scan.lesion_table import instance_columns, lesion_row
from jaxsal.scan.members import require_members
from jaxsal.scan.notes import notes_of
from jaxsal.scan.prediction import completed, write_prediction
from jaxsal.scan.provenance import RunRecord
from jaxsal.scan.uncertain_lesions import find_uncertain_lesions
from jaxsal.scan.unfinished import Unfinished
from jaxsal.settings import PredictSettings, UncertaintySettings
from jaxsal.store.output_folder import OutputFolder
from jaxsal.tables import Row, write_table


def predict(
    model: Model,
    scan: Scan,
    out: Path,
    settings: PredictSettings,
    *,
    uncertainty: UncertaintySettings | None = None,
    overwrite: bool = False,
    on_stage: OnStage = lambda stage: None,
) -> list[Row]:
    """Finds a scan's lesions and writes probability, label map, table and record into a folder.

    Args:
        model: the network.
        scan: the files.
        out: folder for the results.
        settings: how lesions are found.
        uncertainty: how uncertain the network is of them is written, too; None: it is not.
        overwrite: begin anew where earlier runs left results; see `jaxsal.store`.
        on_stage: called with what is being done.

    Returns:
        The rows of the table, one per lesion.

    Raises:
        InputError: a file, the folder or a setting cannot be worked with.
        OutputError: a result cannot be written.
    """
    settings = completed(settings, model)
    require_members(model, settings, uncertainty)
    unfinished = Unfinished(out)
    with OutputFolder(out, overwrite=overwrite) as results:
        unfinished.require_none(overwrite=overwrite)
        run = RunRecord("predict", model, scan.roles(model.channels))
        on_stage("finding lesions")
        loaded = load_scan(scan, model.channels, model.preprocessing)
        run.saw(loaded.backgrounds)
        prediction = find_uncertain_lesions(model, loaded, settings, uncertainty, on_stage)
        warn_of(notes_of(model, prediction))
        rows = [lesion_row(prediction, instance) for instance in prediction.instances]
        write_prediction(results, prediction)
        columns = instance_columns(**prediction.extras)
        write_table(results.path("instances.tsv"), [column.key for column in columns], rows)
        asked = {} if uncertainty is None else {"uncertainty": asdict(uncertainty)}
        results.commit(run.finished({"prediction": prediction.facts(settings), **asked}))
        unfinished.discard()
    return rows
