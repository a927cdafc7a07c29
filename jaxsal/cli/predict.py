"""``jaxsal predict``: a scan's lesions."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxsal.cli import options as shared

if TYPE_CHECKING:
    from jaxsal.inputs.scan import Scan
    from jaxsal.tables import Row

# The lesions' table, by the columns of instances.tsv.
_COLUMNS = {
    **{"label": "label", "kind": "kind", "voxels": "voxels", "volume_mm3": "mm³"},
    **{"x_mm": "x_mm", "y_mm": "y_mm", "z_mm": "z_mm"},
}


def add_parser(commands: Any) -> None:
    """Adds the command's parser."""
    parser = commands.add_parser(
        "predict",
        help="find the lesions of a scan",
        description="Writes prediction.nii.gz (lesion probability), instances.nii.gz (labels), "
        "instances.tsv and run.json.",
    )
    shared.add_scan(parser)
    parser.add_argument(
        "--reference", type=Path, metavar="MASK", help="true lesions: sets the kinds TP, FP and FN"
    )
    shared.add_field(parser, "windows, or the whole volume at once")
    shared.add_prediction(parser)
    shared.add_device(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Runs the command."""
    from jaxsal.checkpoints import load_model
    from jaxsal.cli.progress import ProgressBar
    from jaxsal.scan.predict import predict

    scan = shared.scan_files(options)
    with shared.computing(options), ProgressBar() as bar:
        model = load_model(options.model, options.precision)
        settings = shared.prediction_settings(options, model, options.field)
        rows = predict(
            model, scan, options.out, settings, overwrite=options.overwrite, on_stage=bar.stage
        )
    print(shared.channel_files(scan, model.channels))
    _show(rows, options.out)
    print(f"{_found([row['kind'] for row in rows], scan)}; results in {options.out}")


def _show(rows: Sequence[Row], out: Path) -> None:
    """Prints the lesions, true ones first and by size; where they lie as the centroid in mm."""
    from jaxsal.cli.tables import make_table, print_table, rows_shown
    from jaxsal.scan.lesion_table import for_reading

    if not rows:
        return
    table, shown = make_table(*_COLUMNS.values()), rows_shown(len(rows))
    for row in for_reading(rows)[:shown]:
        cells = (row[key] for key in _COLUMNS)
        table.add_row(*(f"{c:.1f}" if isinstance(c, float) else str(c) for c in cells))
    print_table(table)
    if shown < len(rows):
        print(f"... and {len(rows) - shown} more in {out / 'instances.tsv'}")


def _found(kinds: list[str], scan: Scan) -> str:
    if scan.reference is None:
        return f"{len(kinds)} lesion{'' if len(kinds) == 1 else 's'} found"
    true, false, missed = (kinds.count(kind) for kind in ("TP", "FP", "FN"))
    return f"{true + false} found: {true} TP, {false} FP; {missed} missed (FN)"
