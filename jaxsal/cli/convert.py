"""``jaxsal convert``: a network of PyTorch's into a model directory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from jaxsal.cli import options as shared
from jaxsal.cli.command import Command, Commands, Given, group
from jaxsal.errors import InputError
from jaxsal.options import option
from jaxsal.settings import output_option

if TYPE_CHECKING:
    from jaxsal.model import Model

# command -> class in monai.networks.nets
_MONAI = {
    "unet": "UNet",
    "dynunet": "DynUNet",
    "swin-unetr": "SwinUNETR",
    "segresnet": "SegResNet",
    "segresnet-ds": "SegResNetDS",
    "mednext": "MedNeXt",
}


@dataclass(frozen=True)
class _FromMonai:
    """A checkpoint of MONAI's.

    Attributes:
        source: file that torch.save wrote, or the folder of a MONAI bundle.
        config: arguments of the class's constructor that the checkpoint's shapes do not show, in
            JSON or YAML; or a configuration of a MONAI bundle, such as inference.json.
        verify: with MONAI installed: print the largest difference of logits on random input.
        weights: which weights, where a file holds averages over training (EMA) beside the raw
            ones. None: those that the program which wrote it reads.
        outputs: a name per output of the network, such as background lesion.
    """

    source: Path = option(metavar="SOURCE", positional=True)
    config: Path | None = option(None, "FILE")
    verify: bool = option(False)
    weights: Literal["raw", "ema"] | None = option(None)
    outputs: tuple[str, ...] | None = option(None, "NAME")


@dataclass(frozen=True)
class _FromNnunet:
    """Results of nnU-Net's.

    Attributes:
        source: folder with plans.json, dataset.json and fold_0, … as nnU-Net leaves it, its
            dataset's folder, or the zip that nnUNetv2_export_model_to_zip writes.
        fold: folds whose networks make an ensemble, by number, or all; or fold_all, the network
            trained on all cases. None: all.
        checkpoint: which file of each fold, checkpoint_final.pth, …. None: the first of these that
            there is.
        configuration: name such as 3d_fullres. None: the checkpoint's.
        trainer: of several trainings in the folder or zip, the one by this trainer, such as
            nnUNetTrainer.
        verify: with dynamic-network-architectures installed: print the largest difference of
            logits on random input.
    """

    source: Path = option(metavar="RESULTS", positional=True)
    fold: tuple[str, ...] | None = option(None, "K")
    checkpoint: str | None = option(None, choices=("final", "best", "latest"))
    configuration: str | None = option(None, "NAME")
    trainer: str | None = option(None, "NAME")
    verify: bool = option(False)


@dataclass(frozen=True)
class _FromTorch:
    """A network that torch.export exported.

    Attributes:
        source: file that torch.export.save wrote.
        output: which output is the logits, where several have the image's size: its key or place
            in what the network returns, such as logits or 1.
        roi: window size in voxels, one number or one per axis, of a network that takes several
            sizes. None: that of each command.
        axis: of a network of two dimensions: the axis of the image's array along which its slices
            follow each other. None: z.
        verify: with torch installed, for files that you trust, as torch can run code of theirs:
            print the largest difference of logits on random input.
        outputs: a name per channel of the logits, such as background lesion.
    """

    source: Path = option(metavar="SOURCE", positional=True)
    output: str | None = option(None, "NAME")
    roi: tuple[int, int, int] | None = option(None, "N")
    axis: Literal["x", "y", "z"] | None = option(None)
    verify: bool = option(False)
    outputs: tuple[str, ...] | None = option(None, "NAME")


@dataclass(frozen=True)
class _Converted:
    """The model.

    Attributes:
        out: folder for the model.
        threshold: lesion probability at and above which a voxel is lesion. None: 0.5.
        channels: a name per input channel, such as flair mprage; used in file names.
        orientation: where the array axes of the training's images run to, such as RAS, if the
            source does not say: images in other axes are then brought to these, and results back.
        voxel_size: voxel size of the training's images, one number or one per axis, such as 1 1 1,
            if the source does not say: scans of others are then resampled.
        target: the lesion's output, by name or number, which all commands then find and explain.
            None: 1, or the only one.
    """

    out: Path = option(metavar="MODEL_DIR")
    threshold: float | None = option(None, "T")
    channels: tuple[str, ...] | None = option(None, "NAME")
    orientation: str | None = option(None, "AXES")
    voxel_size: tuple[float, float, float] | None = option(None, "MM")
    target: int | None = output_option()
    overwrite: bool = shared.overwrite_option()


def run_monai(name: str, given: Given) -> None:
    """Converts a network of MONAI's."""
    with _installed():
        from jaxsal_converters.monai import (
            MONAI_NETWORKS,
            convert_checkpoint,
            require_monai,
            verify_checkpoint,
        )
    source, network = given.of(_FromMonai), MONAI_NETWORKS[name]
    if source.verify:
        require_monai()
    convert = partial(convert_checkpoint, network, source.source, source.config)
    model = _converted(given, partial(convert, outputs=source.outputs, weights=source.weights))
    if source.verify:
        _print_difference("MONAI", verify_checkpoint(network, model, source.source, source.weights))
    _save(model, given.of(_Converted))


def run_nnunet(given: Given) -> None:
    """Converts what nnU-Net trained."""
    with _installed():
        from jaxsal_converters.nnunet import convert_nnunet
        from jaxsal_converters.nnunet_source import require_networks, verify_nnunet
    source = given.of(_FromNnunet)
    if source.verify:
        require_networks()
    convert = partial(convert_nnunet, source.source, source.fold, source.configuration)
    options = {"checkpoint": source.checkpoint, "trainer": source.trainer}
    model = _converted(given, partial(convert, **options))
    if source.verify:
        chosen = (source.source, source.fold, source.configuration, source.checkpoint)
        _print_difference("nnU-Net", verify_nnunet(model, *chosen, source.trainer))
    _save(model, given.of(_Converted))


def run_torch(given: Given) -> None:
    """Converts an exported program."""
    with _installed():
        from jaxsal_converters.program_model import Wanted, convert_program
    source = given.of(_FromTorch)
    if source.verify:
        from jaxsal_converters.torch_module import require_torch, verify_program

        require_torch()

    def convert(**named: Any) -> tuple[Model, list[str]]:
        wanted = Wanted(
            outputs=source.outputs, output=source.output, roi=source.roi, axis=source.axis, **named
        )
        return convert_program(source.source, wanted)

    model = _converted(given, convert)
    if source.verify:
        _print_difference("torch", verify_program(model, source.source))
    _save(model, given.of(_Converted))


@contextmanager
def _installed() -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        raise InputError(
            f"converting needs {error.name}, which is not installed: pip install 'jaxsal[convert]'"
        ) from error


def _converted(given: Given, convert: Callable[..., tuple[Model, list[str]]]) -> Model:
    """The model, with axes and voxel size as the options give them; prints what is assumed.

    Raises:
        InputError: they are none, or the folder for the model cannot be taken; before anything is
            read.
    """
    from jaxsal.checkpoints import check_target
    from jaxsal.preprocessing import Preprocessing

    wanted = given.of(_Converted)
    geometry = Preprocessing(orientation=wanted.orientation, spacing=wanted.voxel_size)
    check_target(wanted.out, wanted.overwrite)
    model, assumptions = convert(
        threshold=wanted.threshold, channels=wanted.channels, target=wanted.target
    )
    for assumption in assumptions:
        print(f"note: {assumption}")
    if geometry == Preprocessing():
        return model
    known = model.preprocessing or geometry
    return replace(model, preprocessing=known.completed(geometry.orientation, geometry.spacing))


def _print_difference(peer: str, difference: float) -> None:
    print(f"largest difference of logits to {peer}'s, relative to the largest: {difference:.2e}")


def _save(model: Model, wanted: _Converted) -> None:
    from jaxsal.checkpoints import save_model

    save_model(model, wanted.out, overwrite=wanted.overwrite)
    assert model.outputs is not None  # all converters give them
    lesion = model.outputs.lesion
    target = "to be given" if lesion is None else model.outputs.names[lesion]
    print(
        f"{model.parameter_count:,} parameters, channels {', '.join(model.channels)}, target "
        f"{target}, threshold {model.threshold}; model in {wanted.out}"
    )


_DESCRIPTION = "Reads tensors only; nothing in a checkpoint is ever executed."
_OF_PROGRAMS = (
    "The network is any that torch.export.export takes, of three dimensions or two. Reads the "
    "program and its tensors without torch; nothing in the file is executed, unless --verify asks "
    "torch to."
)


def _command(name: str) -> Command:
    if name == "torch":
        return Command(
            _OF_PROGRAMS, (group(_FromTorch), group(_Converted)), run_torch, configurable=False
        )
    monai = partial(run_monai, name), _FromMonai
    run, source = monai if name in _MONAI else (run_nnunet, _FromNnunet)
    of = f"The network is monai.networks.nets.{_MONAI[name]}. " if name in _MONAI else ""
    return Command(of + _DESCRIPTION, (group(source), group(_Converted)), run, configurable=False)


COMMAND = Commands(
    "Converts a network of PyTorch's into a model directory. Nothing in a checkpoint is ever "
    "executed.",
    {
        **{name: f"MONAI's {of}" for name, of in _MONAI.items()},
        "nnunet": "a network or ensemble trained by nnU-Net v2",
        "torch": "any other network, as torch.export.save writes it (.pt2)",
    },
    _command,
    metavar="NETWORK",
)
