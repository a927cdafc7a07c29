"""``jaxsal predict``: a scan's lesions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxsal.cli import options as shared
from jaxsal.cli.command import Command, Given, group
from jaxsal.options import option
from jaxsal.settings import OUTCOMES
from jaxsal.wording import counted

if TYPE_CHECKING:
    from jaxsal.tables import Row

# The lesions' table, by the columns of instances.tsv.
_COLUMNS = {
    **{"label": "label", "kind": "kind", "voxels": "voxels", "volume_mm3": "mm³"},
    **{"x_mm": "x_mm", "y_mm": "y_mm", "z_mm": "z_mm"},
}
_UNCERTAINTY = ("lsu", "entropy")  # where there are members


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
    _show(rows, results.out)
    found = f"{counted(len(rows), 'lesion')} found"
    if scan.reference is not None:
        true, false, missed = ([row["kind"] for row in rows].count(k) for k in OUTCOMES)
        found = f"{true + false} found: {true} TP, {false} FP; {missed} missed (FN)"
    print(f"{found}; results in {results.out}")


def _show(rows: Sequence[Row], out: Path) -> None:
    """Prints the lesions, true ones first and by size; where they lie as the centroid in mm."""
    from jaxsal.cli.tables import make_table, print_table, rows_shown
    from jaxsal.scan.lesion_table import for_reading

    if not rows:
        return
    columns = {**_COLUMNS, **{key: key for key in _UNCERTAINTY if key in rows[0]}}
    table, shown = make_table(*columns.values()), rows_shown(len(rows))
    for row in for_reading(rows)[:shown]:
        table.add_row(*(_shown(key, row[key]) for key in columns))
    print_table(table)
    if shown < len(rows):
        print(f"... and {len(rows) - shown} more in {out / 'instances.tsv'}")


def _shown(key: str, value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.2f}" if key in _UNCERTAINTY else f"{value:.1f}"
    return str(value)


COMMAND = Command(
    "Writes prediction.nii.gz (lesion probability), instances.nii.gz (labels), instances.tsv and "
    "run.json.",
    (
        *(shared.MODEL, shared.SCAN, shared.RESULTS, group(_Reference)),
        *(shared.FINDING_WITH_FIELD, shared.UNCERTAINTY, shared.RESAMPLE, shared.COMPUTING),
    ),
    run,
)
