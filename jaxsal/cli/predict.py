"""``jaxsal predict``: a scan's lesions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxsal.cli import options as shared
from jaxsal.cli.command import Command, Given, group
from jaxsal.cli.lesions import show_found
from jaxsal.options import option
from jaxsal.settings import OUTCOMES
from jaxsal.wording import counted


@dataclass(frozen=True)
class _Reference:
    reference: Path | None = option(None, "MASK", help=shared.REFERENCE)


def run(given: Given) -> None:
    """Runs the command."""
    from jaxsal.cli.progress import ProgressBar
    from jaxsal.scan.predict import predict

    results, scan = given.of(shared.Results), shared.scan_files(given)
    uncertainty = shared.uncertainty_settings(given)
    with shared.computing(given), ProgressBar() as bar:
        model = shared.load_model(given)
        settings = shared.prediction_settings(given, model, given.get("field", "sliding"))
        shown: Any = {"overwrite": results.overwrite, "on_stage": bar.stage}
        rows = predict(model, scan, results.out, settings, uncertainty=uncertainty, **shown)
    print(shared.channel_files(scan, model.channels))
    show_found(rows, results.out)
    found = f"{counted(len(rows), 'lesion')} found"
    if scan.reference is not None:
        true, false, missed = ([row["kind"] for row in rows].count(k) for k in OUTCOMES)
        found = f"{true + false} found: {true} TP, {false} FP; {missed} missed (FN)"
    print(f"{found}; results in {results.out}")


COMMAND = Command(
    "Writes prediction.nii.gz (lesion probability), instances.nii.gz (labels), instances.tsv and "
    "run.json.",
    (
        *(shared.MODEL, shared.SCAN, shared.RESULTS, group(_Reference)),
        *(shared.FINDING_WITH_FIELD, shared.UNCERTAINTY, shared.RESAMPLE, shared.COMPUTING),
    ),
    run,
)
