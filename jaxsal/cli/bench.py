"""``jaxsal bench``: how fast a model is on a device, and what a scan will take."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import Any

from jaxsal.cli import options as shared
from jaxsal.wording import duration

_SHAPE = (192, 224, 192)


def add_parser(commands: Any) -> None:
    """Adds the command's parser."""
    parser = commands.add_parser(
        "bench",
        help="measure a model's speed on this device, and forecast what a scan takes",
        description="Measures single-voxel gradients per second on a synthetic scan, after "
        "compilation, and forecasts the time of signed-maximum maps for a whole scan.",
    )
    parser.add_argument("model", type=Path, metavar="MODEL_DIR", help="a converted model")
    shared.add_field(parser, "what is differentiated: windows, or the whole volume at once")
    parser.add_argument(
        "--shape",
        type=int,
        nargs=3,
        default=list(_SHAPE),
        metavar="N",
        help=f"the scan's size in voxels; default: {' '.join(map(str, _SHAPE))}",
    )
    shared.add_roi(parser)
    shared.add_memory(parser)
    _add_scan(parser)
    shared.add_device(parser)
    parser.set_defaults(run=run)


def _add_scan(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("the scan to forecast")
    for name, default, meaning in (
        ("lesions", 48, "lesions"),
        ("voxels", 93, "voxels per lesion"),
        ("samples", 50, "noisy images"),
    ):
        group.add_argument(
            f"--{name}",
            type=_count,
            default=default,
            metavar="N",
            help=f"{meaning}; default: %(default)s",
        )


def run(options: argparse.Namespace) -> None:
    """Runs the command."""
    from jaxsal.checkpoints import load_model
    from jaxsal.cli.progress import ProgressBar
    from jaxsal.errors import InputError
    from jaxsal.saliency.smoothgrad import smoothgrad
    from jaxsal.scan.calibration import measure_throughput
    from jaxsal.scan.defaults import for_model
    from jaxsal.scan.prediction import make_field
    from jaxsal.settings import PredictSettings

    if options.memory is not None and options.memory <= 0:
        raise InputError(f"memory must be more than zero, got {options.memory} bytes")
    if min(options.shape) < 1:
        raise InputError(f"shape must be three sizes of at least 1 voxel, got {options.shape}")
    with shared.computing(options), ProgressBar() as bar:
        model = load_model(options.model, options.precision)
        settings = for_model(
            PredictSettings(field=options.field),
            model,
            roi=shared.window_size(options),
            overlap=None,
            target=0,
        )
        bar.stage("measuring")
        speed = measure_throughput(
            partial(smoothgrad, make_field(model, settings), memory=options.memory),
            tuple(options.shape),
            len(model.channels),
        )
    size = " × ".join(map(str, speed.shape))
    print(f"{speed.device}, {options.precision}, {options.field} field, {size} voxels")
    print(
        f"{speed.gradients_per_second:.3g} voxel gradients per second; the first call took "
        f"{speed.first_call:.0f} s, compilation included"
    )
    voxels = options.lesions * options.voxels
    print(
        f"forecast for a scan of {options.lesions} lesions × {options.voxels} voxels × "
        f"{options.samples} samples = {voxels * options.samples:,} gradients: "
        f"{duration(speed.forecast(voxels, options.samples))}"
    )


def _count(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, got {text!r}")
    return value
