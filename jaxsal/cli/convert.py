"""``jaxsal convert``: a PyTorch checkpoint into a model directory."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from jaxsal.errors import InputError


def add_parser(commands: Any) -> None:
    """Adds the command's parser."""
    parser = commands.add_parser(
        "convert",
        help="convert a PyTorch checkpoint (needs the extra: jaxsal[convert])",
        description="Reads tensors only; nothing in a checkpoint is ever executed.",
    )
    networks = parser.add_subparsers(dest="network", metavar="NETWORK", required=True)
    unet = networks.add_parser("unet", help="MONAI's UNet")
    unet.add_argument("source", type=Path, metavar="SOURCE", help="file that torch.save wrote")
    unet.add_argument("--out", type=Path, required=True, metavar="MODEL_DIR")
    unet.add_argument(
        "--config",
        type=Path,
        metavar="JSON",
        help="arguments of monai.networks.nets.UNet that the checkpoint's shapes do not show",
    )
    unet.add_argument(
        "--threshold",
        type=float,
        metavar="T",
        help="lesion probability at and above which a voxel is lesion; default: 0.5",
    )
    unet.add_argument(
        "--channels",
        nargs="+",
        metavar="NAME",
        help="a name per input channel, such as flair mprage; used in file names",
    )
    unet.add_argument(
        "--verify",
        action="store_true",
        help="with MONAI installed: print the largest difference of logits on random input",
    )
    unet.add_argument("--overwrite", action="store_true", help="replace a model of that name")
    unet.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Runs the command."""
    try:
        from jaxsal_converters.unet import convert_unet, verify_unet
    except ModuleNotFoundError as error:
        raise InputError(
            f"converting needs {error.name}, which is not installed: pip install 'jaxsal[convert]'"
        ) from error
    from jaxsal.checkpoints import save_model

    model, assumptions = convert_unet(
        options.source, options.config, threshold=options.threshold, channels=options.channels
    )
    for assumption in assumptions:
        print(f"assumed: {assumption}")
    if options.verify:
        difference = verify_unet(model, options.source)
        print(f"largest difference of logits to MONAI's, relative to the largest: {difference:.2e}")
    save_model(model, options.out, overwrite=options.overwrite)
    print(
        f"{model.parameter_count:,} parameters, channels {', '.join(model.channels)}, "
        f"threshold {model.threshold}; model in {options.out}"
    )
