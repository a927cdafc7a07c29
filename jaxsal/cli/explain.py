"""``jaxsal explain``: why each of a scan's lesions was found."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from jaxsal.cli import options as shared
from jaxsal.settings import (
    AGGREGATES,
    LEVELS,
    METHODS,
    NOISE_SCALES,
    ExplainSettings,
)


def add_parser(commands: Any) -> None:
    """Adds the command's parser."""
    parser = commands.add_parser(
        "explain",
        help="find the lesions of a scan and map what each of them rests on",
        description="Writes what predict writes, and for every lesion and channel a saliency map "
        "under maps/, a picture under pictures/, and index.html over all of them.",
    )
    shared.add_scan(parser)
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--reference",
        type=Path,
        metavar="MASK",
        help="true lesions: tells TP, FP and FN, and explains missed lesions too",
    )
    which.add_argument(
        "--instances",
        type=Path,
        metavar="LABELS",
        help="explain the lesions of this label map instead of the predicted ones",
    )
    _add_method(parser)
    shared.add_prediction(parser)
    shared.add_device(parser)
    _add_output(parser)
    parser.set_defaults(run=run)


def _add_method(parser: argparse.ArgumentParser) -> None:
    defaults = ExplainSettings()
    group = parser.add_argument_group("saliency")
    group.add_argument("--method", choices=METHODS, default=defaults.method)
    group.add_argument(
        "--level",
        choices=LEVELS,
        default=defaults.level,
        help="a map per lesion, or one of all segmented voxels; default: %(default)s",
    )
    group.add_argument(
        "--aggregate",
        choices=AGGREGATES,
        default=None,
        help="of a lesion's single-voxel gradients: signed maximum (quantitative, Eq. 3), "
        f"mean (Eq. 2) or sum; for the instance level; default: {defaults.aggregate}",
    )
    group.add_argument(
        "--samples",
        type=int,
        default=defaults.samples,
        metavar="N",
        help="noisy images; default: %(default)s",
    )
    group.add_argument(
        "--noise", type=float, default=defaults.noise, help="noise level; default: %(default)s"
    )
    group.add_argument(
        "--noise-scale",
        choices=NOISE_SCALES,
        default=defaults.noise_scale,
        help="noise as a fraction of the first channel's range, or in units of the z-scored "
        "image; default: %(default)s",
    )
    group.add_argument("--seed", type=int, default=defaults.seed, help="default: %(default)s")
    group.add_argument(
        "--tolerance",
        type=float,
        metavar="T",
        help="use fewer noisy images for a lesion whose map has a standard error below this "
        "fraction of its peak, such as 0.05; default: always all",
    )
    group.add_argument(
        "--standard-error",
        action="store_true",
        help="save the standard error of each map beside it, as ..._se.nii.gz",
    )
    _add_approximation(group)
    group.add_argument(
        "--labels",
        type=_labels,
        metavar="3,7",
        help="which lesions to explain, by their labels in instances.nii.gz; default: all",
    )
    shared.add_field(
        group,
        "what is differentiated: the windows' blended logits, or the whole "
        "volume's (lesions are found by sliding window in any case)",
    )


def _add_approximation(parser: argparse._ActionsContainer) -> None:
    """For lesions of thousands of voxels, of which each takes a gradient."""
    parser.add_argument(
        "--voxels-per-lesion",
        type=int,
        metavar="K",
        help="approximate the signed maximum of larger lesions by K voxels spread over each; "
        "default: all voxels, exact",
    )
    parser.add_argument(
        "--group-size",
        type=int,
        default=ExplainSettings.group_size,
        metavar="G",
        help="approximate it as the published scripts can: by gradients of the summed logits of G "
        "consecutive voxels; default: %(default)s, exact",
    )


def _add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--memory",
        type=shared.gibibytes,
        metavar="GiB",
        help="memory to stay within; default: a share of what is free",
    )
    parser.add_argument(
        "--full-grid", action="store_true", help="write maps on the image's grid, not cropped"
    )
    parser.add_argument("--no-pictures", action="store_true", help="write no pictures and no page")


def run(options: argparse.Namespace) -> None:
    """Runs the command."""
    settings = _settings(options)
    from jaxsal.checkpoints import load_model
    from jaxsal.cli.progress import ProgressBar
    from jaxsal.scan import explain

    scan = shared.scan_files(options)
    with shared.computing(options), ProgressBar() as bar:
        model = load_model(options.model, options.precision)
        prediction = shared.prediction_settings(options, model)
        rows = explain(
            model,
            scan,
            options.out,
            prediction,
            settings,
            overwrite=options.overwrite,
            on_stage=bar.stage,
            on_progress=bar.update,
        )
    page = f"open {options.out / 'index.html'}"
    print(shared.channel_files(scan, model.channels))
    print(
        f"{_explained(len(rows), settings)}; "
        f"{page if settings.pictures else f'results in {options.out}'}"
    )


def _explained(count: int, settings: ExplainSettings) -> str:
    if settings.level == "class":
        return "all segmented voxels explained" if count else "no voxel to explain"
    return f"{count} lesion{'' if count == 1 else 's'} explained"


def _settings(options: argparse.Namespace) -> ExplainSettings:
    if options.level == "class" and options.aggregate is not None:
        from jaxsal.errors import InputError

        raise InputError("--aggregate is for the instance level; the class level is a sum (Eq. 1)")
    return ExplainSettings(
        method=options.method,
        level=options.level,
        aggregate=options.aggregate or ExplainSettings.aggregate,
        samples=options.samples,
        noise=options.noise,
        noise_scale=options.noise_scale,
        seed=options.seed,
        voxels_per_lesion=options.voxels_per_lesion,
        group_size=options.group_size,
        tolerance=options.tolerance,
        standard_error=options.standard_error,
        labels=options.labels,
        field=options.field,
        full_grid=options.full_grid,
        memory=options.memory,
        pictures=not options.no_pictures,
    )


def _labels(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"labels are whole numbers with commas between, such as 3,7; got {text!r}"
        ) from error
