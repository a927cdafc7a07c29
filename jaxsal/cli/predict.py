"""``jaxsal predict``: a scan's lesions."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxsal.cli import options as shared

if TYPE_CHECKING:
    from jaxsal.scan import Scan


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
        "--reference", type=Path, metavar="MASK", help="true lesions: tells TP, FP and FN"
    )
    shared.add_field(parser, "windows, or the whole volume at once")
    shared.add_prediction(parser)
    shared.add_device(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Runs the command."""
    from jaxsal.checkpoints import load_model
    from jaxsal.cli.progress import ProgressBar
    from jaxsal.scan import predict

    scan = shared.scan_files(options)
    with shared.computing(options), ProgressBar() as bar:
        model = load_model(options.model, options.precision)
        settings = shared.prediction_settings(options, model, options.field)
        rows = predict(
            model, scan, options.out, settings, overwrite=options.overwrite, on_stage=bar.stage
        )
    print(shared.channel_files(scan, model.channels))
    print(f"{_found([row['kind'] for row in rows], scan)}; results in {options.out}")


def _found(kinds: list[str], scan: Scan) -> str:
    if scan.reference is None:
        return f"{len(kinds)} lesion{'' if len(kinds) == 1 else 's'} found"
    true, false, missed = (kinds.count(kind) for kind in ("TP", "FP", "FN"))
    return f"{true + false} found: {true} TP, {false} FP; {missed} missed (FN)"
