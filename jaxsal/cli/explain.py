"""``jaxsal explain``: why each of a scan's lesions was found."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxsal.cli import options as shared
from jaxsal.cli import saliency_options
from jaxsal.settings import ExplainSettings, PredictSettings

if TYPE_CHECKING:
    from jaxsal.cli.progress import ProgressBar
    from jaxsal.inputs.scan import Scan
    from jaxsal.model import Model

    _Job = tuple[Model, Scan, Path, PredictSettings, ExplainSettings]


def add_parser(commands: Any) -> None:
    """Adds the command's parser."""
    parser = commands.add_parser(
        "explain",
        help="find the lesions of a scan and map what each of them rests on",
        description="Writes what predict writes, and for every lesion its saliency maps under "
        "maps/, a picture under pictures/, and index.html over all of them. Says first what that "
        "takes. Finished lesions are kept when it ends early; the same command goes on after them.",
    )
    shared.add_scan(parser)
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--reference",
        type=Path,
        metavar="MASK",
        help="true lesions: sets the kinds TP, FP and FN, and has missed lesions explained too",
    )
    which.add_argument(
        "--instances",
        type=Path,
        metavar="LABELS",
        help="explain the lesions of this label map instead of the predicted ones",
    )
    saliency_options.add(parser)
    shared.add_prediction(parser)
    shared.add_device(parser)
    _add_output(parser)
    parser.set_defaults(run=run)


def _add_output(parser: argparse.ArgumentParser) -> None:
    shared.add_memory(parser)
    shared.add_rematerialise(parser)
    parser.add_argument(
        "--full-grid", action="store_true", help="write maps on the image's grid, not cropped"
    )
    parser.add_argument("--no-pictures", action="store_true", help="write no pictures and no page")
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="find the lesions, say what explaining them takes, and stop; writes nothing",
    )


def run(options: argparse.Namespace) -> None:
    """Runs the command."""
    settings = _settings(options)
    from jaxsal.checkpoints import load_model
    from jaxsal.cli.progress import ProgressBar

    scan = shared.scan_files(options)
    with shared.computing(options), ProgressBar() as bar:
        model = load_model(options.model, options.precision)
        if options.rematerialise:
            model = model.with_rematerialisation()
        prediction = shared.prediction_settings(options, model)
        job = (model, scan, options.out, prediction, settings)
        lines = _forecast(options, bar, *job) if options.dry_run else _explain(options, bar, *job)
    print(shared.channel_files(scan, model.channels))
    print("\n".join(lines))


def _forecast(options: argparse.Namespace, bar: ProgressBar, *job: *_Job) -> list[str]:
    from jaxsal.scan.explain import forecast

    amount, duration = forecast(
        *job, overwrite=options.overwrite, on_stage=bar.stage, on_progress=bar.update
    )
    return [str(amount), f"forecast: {duration}"] if duration else [str(amount)]


def _explain(options: argparse.Namespace, bar: ProgressBar, *job: *_Job) -> list[str]:
    from jaxsal.scan.explain import explain

    with keeping_lesions(options.out):
        rows = explain(
            *job,
            overwrite=options.overwrite,
            on_stage=bar.stage,
            on_progress=bar.update,
            on_note=bar.say,
        )
    page = f"open {options.out / 'index.html'}"
    place = f"results in {options.out}" if options.no_pictures else page
    return [f"{_explained(len(rows), options.level)}; {place}"]


@contextmanager
def keeping_lesions(out: Path) -> Iterator[None]:
    """Says, when it is interrupted, how many finished lesions are kept in the results' folder."""
    from jaxsal.scan.unfinished import Unfinished
    from jaxsal.wording import counted

    try:
        yield
    except KeyboardInterrupt as interrupt:
        kept = Unfinished(out).lesions
        if not kept:
            raise
        lesions = f"{counted(kept, 'lesion')} {'is' if kept == 1 else 'are'} finished and kept"
        message = f"interrupted; {lesions}, the same command goes on after them"
        raise type(interrupt)(message) from interrupt


def _explained(count: int, level: str) -> str:
    if level == "class":
        return "all segmented voxels explained" if count else "no voxel to explain"
    return f"{count} lesion{'' if count == 1 else 's'} explained"


def _settings(options: argparse.Namespace) -> ExplainSettings:
    return ExplainSettings(
        saliency_options.settings(options),
        level=options.level,
        labels=options.labels,
        kinds=options.kind and tuple(dict.fromkeys(options.kind)),
        max_voxels=options.max_voxels,
        field=options.field,
        full_grid=options.full_grid,
        pictures=not options.no_pictures,
    )
