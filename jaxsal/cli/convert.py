"""``jaxsal convert``: a PyTorch checkpoint into a model directory."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxsal.cli import options as shared
from jaxsal.errors import InputError

if TYPE_CHECKING:
    from jaxsal.model import Model
    from jaxsal.preprocessing import Preprocessing

# command -> class in monai.networks.nets
_MONAI = {"unet": "UNet", "dynunet": "DynUNet", "swin-unetr": "SwinUNETR"}


def add_parser(commands: Any) -> None:
    """Adds the command's parser."""
    parser = commands.add_parser(
        "convert",
        help="convert a PyTorch checkpoint (needs the extra: jaxsal[convert])",
        description="Reads tensors only; nothing in a checkpoint is ever executed.",
    )
    networks = parser.add_subparsers(dest="network", metavar="NETWORK", required=True)
    for name, class_name in _MONAI.items():
        _add_monai(networks, name, class_name)
    _add_nnunet(networks)


def _add_monai(networks: Any, name: str, class_name: str) -> None:
    parser = networks.add_parser(name, help=f"MONAI's {class_name}")
    parser.add_argument(
        "source",
        type=Path,
        metavar="SOURCE",
        help="file that torch.save wrote, or the folder of a MONAI bundle",
    )
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help=f"arguments of monai.networks.nets.{class_name} that the checkpoint's shapes do not "
        "show, in JSON or YAML; or a configuration of a MONAI bundle, such as inference.json",
    )
    parser.add_argument(
        "--verify",
        action="store_true",
        help="with MONAI installed: print the largest difference of logits on random input",
    )
    parser.add_argument(
        "--weights",
        choices=("raw", "ema"),
        help="which ones, where a file holds averages over training (EMA) beside the raw weights; "
        "default: those that the program which wrote it reads",
    )
    parser.add_argument(
        "--outputs",
        nargs="+",
        metavar="NAME",
        help="a name per output of the network, such as background lesion",
    )
    _add_model(parser)
    parser.set_defaults(run=run_monai)


def _add_nnunet(networks: Any) -> None:
    parser = networks.add_parser("nnunet", help="a network or ensemble trained by nnU-Net v2")
    parser.add_argument(
        "source",
        type=Path,
        metavar="RESULTS_FOLDER",
        help="folder with plans.json, dataset.json and fold_0, … as nnU-Net leaves it",
    )
    parser.add_argument(
        "--fold",
        nargs="+",
        metavar="K",
        help="numbers of folds, which make an ensemble; all; or fold_all, the network trained on "
        "all cases; default: all",
    )
    parser.add_argument(
        "--checkpoint",
        choices=("final", "best", "latest"),
        help="which file of each fold, checkpoint_final.pth, …; default: the first of these that "
        "there is",
    )
    parser.add_argument(
        "--configuration", metavar="NAME", help="such as 3d_fullres; default: the checkpoint's"
    )
    parser.add_argument(
        "--verify",
        action="store_true",
        help="with dynamic-network-architectures installed: print the largest difference of logits "
        "on random input",
    )
    _add_model(parser)
    parser.set_defaults(run=run_nnunet)


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, required=True, metavar="MODEL_DIR")
    parser.add_argument(
        "--threshold",
        type=float,
        metavar="T",
        help="lesion probability at and above which a voxel is lesion; default: 0.5",
    )
    parser.add_argument(
        "--channels",
        nargs="+",
        metavar="NAME",
        help="a name per input channel, such as flair mprage; used in file names",
    )
    parser.add_argument(
        "--orientation",
        metavar="AXES",
        help="where the array axes of the training's images run to, such as RAS, if the source "
        "does not say: images in other axes are then brought to these, and results back",
    )
    parser.add_argument(
        "--voxel-size",
        type=float,
        nargs="+",
        metavar="MM",
        help="of the training's images, one number or one per axis, such as 1 1 1, if the source "
        "does not say: others are then refused",
    )
    parser.add_argument(
        "--target",
        type=shared.output_number_or_name,
        metavar="NAME|INDEX",
        help="the lesion's output, by name or number, which all commands then find and explain; "
        "default: 1, or the only one",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace a model of that name")


def run_monai(options: argparse.Namespace) -> None:
    """Converts a network of MONAI's."""
    try:
        from jaxsal_converters.monai import (
            convert_checkpoint,
            require_monai,
            verify_checkpoint,
        )
        from jaxsal_converters.networks import MONAI_NETWORKS
    except ModuleNotFoundError as error:
        raise _not_installed(error) from error
    if options.verify:
        require_monai()
    geometry = _checked(options)
    network = MONAI_NETWORKS[options.network]
    model, assumptions = convert_checkpoint(
        network,
        options.source,
        options.config,
        threshold=options.threshold,
        channels=options.channels,
        outputs=options.outputs,
        target=options.target,
        weights=options.weights,
    )
    model = _with_geometry(model, geometry)
    _say_assumptions(assumptions)
    if options.verify:
        difference = verify_checkpoint(network, model, options.source, options.weights)
        print(f"largest difference of logits to MONAI's, relative to the largest: {difference:.2e}")
    _save(model, options)


def run_nnunet(options: argparse.Namespace) -> None:
    """Converts what nnU-Net trained."""
    try:
        from jaxsal_converters.nnunet import convert_nnunet
        from jaxsal_converters.nnunet_source import require_networks, verify_nnunet
    except ModuleNotFoundError as error:
        raise _not_installed(error) from error
    if options.verify:
        require_networks()
    geometry = _checked(options)
    model, assumptions = convert_nnunet(
        options.source,
        options.fold,
        options.configuration,
        checkpoint=options.checkpoint,
        threshold=options.threshold,
        channels=options.channels,
        target=options.target,
    )
    model = _with_geometry(model, geometry)
    _say_assumptions(assumptions)
    if options.verify:
        difference = verify_nnunet(
            model, options.source, options.fold, options.configuration, options.checkpoint
        )
        print(
            f"largest difference of logits to nnU-Net's, relative to the largest: {difference:.2e}"
        )
    _save(model, options)


def _checked(options: argparse.Namespace) -> Preprocessing:
    """The axes and the voxel size that the options give, before anything is read.

    Raises:
        InputError: they are none, or the folder for the model cannot be taken.
    """
    from jaxsal.checkpoints import check_target
    from jaxsal.preprocessing import Preprocessing

    sizes = options.voxel_size
    spacing = sizes and tuple(sizes * 3 if len(sizes) == 1 else sizes)
    geometry = Preprocessing(orientation=options.orientation, spacing=spacing)
    check_target(options.out, options.overwrite)
    return geometry


def _with_geometry(model: Model, geometry: Preprocessing) -> Model:
    """The model, which says these axes and this voxel size, as far as they are given."""
    from jaxsal.preprocessing import Preprocessing

    if geometry == Preprocessing():
        return model
    told = model.preprocessing or geometry
    return replace(model, preprocessing=told.completed(geometry.orientation, geometry.spacing))


def _not_installed(error: ModuleNotFoundError) -> InputError:
    return InputError(
        f"converting needs {error.name}, which is not installed: pip install 'jaxsal[convert]'"
    )


def _say_assumptions(assumptions: list[str]) -> None:
    for assumption in assumptions:
        print(f"note: {assumption}")


def _save(model: Model, options: argparse.Namespace) -> None:
    from jaxsal.checkpoints import save_model

    save_model(model, options.out, overwrite=options.overwrite)
    print(
        f"{model.parameter_count:,} parameters, channels {', '.join(model.channels)}, target "
        f"{_target(model)}, threshold {model.threshold}; model in {options.out}"
    )


def _target(model: Model) -> str:
    assert model.outputs is not None  # all converters give them
    lesion = model.outputs.lesion
    return "to be given" if lesion is None else model.outputs.names[lesion]
