"""A training of nnU-Net v2's -> `jaxsal.Model`, several folds as one ensemble."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp

from jaxsal.errors import InputError
from jaxsal.model import Model
from jaxsal.nets.nnunet_config import NNUNetConfig
from jaxsal.store.files import file_checksum
from jaxsal.types import Triple
from jaxsal_converters.nnunet_architecture import read_architecture, trained_network, what_to_edit
from jaxsal_converters.nnunet_archive import opened_training
from jaxsal_converters.nnunet_folder import (
    Checkpoints,
    Fold,
    choose_checkpoints,
    read_fold,
    read_plans,
)
from jaxsal_converters.nnunet_keys import KEY_PATTERN, aliases, own_entries, parameter_rules
from jaxsal_converters.nnunet_plans import (
    channel_names,
    read_outputs,
    read_preprocessing,
    select_configuration,
    spatial_axes,
)
from jaxsal_converters.outputs import with_target
from jaxsal_converters.rules import apply_rules
from jaxsal_converters.state_dict import State, select_network

_DEFAULT_CONFIGURATION = "3d_fullres"
_DEFAULT_TRAINER = "nnUNetTrainer"


def convert_nnunet(
    results: str | Path,
    folds: Sequence[str] | None = None,
    configuration: str | None = None,
    *,
    trainer: str | None = None,
    checkpoint: str | None = None,
    threshold: float | None = None,
    channels: Sequence[str] | None = None,
    target: int | str | None = None,
) -> tuple[Model, list[str]]:
    """Converts what nnU-Net v2 trained.

    Args:
        results: folder with plans.json, dataset.json and fold_0, …; a folder of such ones, or the
            archive that nnU-Net exports.
        folds: numbers, "fold_all", or None or "all" for all folds there are.
        configuration: of the plans; by default the checkpoints'.
        trainer: of several trainings in the folder or archive, the one by this trainer.
        checkpoint: "final", "best" or "latest", which file of each fold; by default the first of
            these that there is.
        threshold: lesion probability at and above which a voxel is lesion.
        channels: a name per input channel; by default dataset.json's.
        target: number or name of the lesion's output channel, or region.

    Returns:
        The model, and a sentence for everything that was assumed.

    Raises:
        InputError: the files do not make a network that is supported.
    """
    with opened_training(Path(results), configuration, trainer) as folder:
        return _converted(folder, folds, configuration, checkpoint, threshold, channels, target)


def _converted(
    folder: Path,
    folds: Sequence[str] | None,
    configuration: str | None,
    checkpoint: str | None,
    threshold: float | None,
    channels: Sequence[str] | None,
    target: int | str | None,
) -> tuple[Model, list[str]]:
    """As `convert_nnunet`, of a training's own folder."""
    plans, dataset = read_plans(folder)
    chosen = choose_checkpoints(folder, folds, checkpoint)
    members = [read_fold(path) for path in chosen.paths]
    name = _configuration(members, configuration)
    try:
        outputs = read_outputs(dataset)
        names = channel_names(dataset)
        settings = select_configuration(plans, name)
        axes = spatial_axes(plans)
        config = read_architecture(settings, len(names), len(outputs.names), axes)
        preprocessing = read_preprocessing(plans, settings, axes, members[0].mirror_axes)
    except KeyError as error:
        raise InputError(f"{folder}: the plans lack {error}, which nnU-Net writes") from error
    except InputError as error:
        raise InputError(f"{folder}: {error}") from error
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise InputError(
            f"{folder}: plans.json or dataset.json is not as nnU-Net writes it: {error}"
        ) from error
    assumptions = _about_files(chosen, checkpoint)
    config, norm = trained_network(config, members[0].entries)
    assumptions += [norm] if norm else []
    remedy = what_to_edit(plans, name)
    parameters = [_parameters(config, fold, axes, remedy) for fold in members]
    assumptions += _assumptions(plans, members[0])
    if threshold is None:
        threshold = 0.5
        assumptions.append("threshold: 0.5; set it with --threshold")
    model = Model(
        config=config,
        parameters=_stacked(parameters),
        channels=tuple(channels) if channels is not None else names,
        threshold=threshold,
        aliases=aliases(config),
        source={
            "folder": folder.name,
            "configuration": name,
            "checkpoint": f"checkpoint_{chosen.kind}.pth",
            "folds": {fold.path.parent.name: file_checksum(fold.path) for fold in members},
            "converter": "nnunet",
            "assumptions": assumptions,
        },
        members=len(members),
        preprocessing=preprocessing,
        outputs=with_target(outputs, target, assumptions),
    )
    return model, assumptions


def convert_entries(config: NNUNetConfig, entries: State, axes: Triple) -> dict[str, Any]:
    """Our parameters from the entries of one network.

    Args:
        config: its architecture.
        entries: by nnU-Net's keys.
        axes: of its kernels, the one along X, Y and Z each.

    Raises:
        InputError: entries are missing, extra, misshapen or contradictory.
    """
    network, _, _ = select_network(entries, KEY_PATTERN)
    return apply_rules(parameter_rules(config, axes), own_entries(network, config.stages))


def _parameters(config: NNUNetConfig, fold: Fold, axes: Triple, remedy: str) -> dict[str, Any]:
    try:
        return convert_entries(config, fold.entries, axes)
    except InputError as error:
        trainer = fold.trainer or "an unknown trainer"
        raise InputError(
            f"{fold.path}: {error}. Trained by {trainer}, which may build another network than the "
            f"plans describe: if it is a {config.network}, {remedy}; others are not supported"
        ) from error


def _stacked(members: list[dict[str, Any]]) -> dict[str, Any]:
    if len(members) == 1:
        return members[0]
    return {name: jnp.stack([m[name] for m in members]) for name in members[0]}


def _configuration(members: list[Fold], given: str | None) -> str:
    """The configuration, on which all folds and the user agree."""
    for fold in members:
        first = members[0]
        if (fold.configuration, fold.trainer) != (first.configuration, first.trainer):
            raise InputError(
                f"the folds are of different trainings: {first.path} of {first.trainer} with "
                f"{first.configuration}, {fold.path} of {fold.trainer} with {fold.configuration}"
            )
        if given is not None and fold.configuration not in (None, given):
            raise InputError(
                f"{fold.path} was trained with the configuration {fold.configuration}, asked for "
                f"was {given}"
            )
    return given or members[0].configuration or _DEFAULT_CONFIGURATION


def _about_files(chosen: Checkpoints, asked: str | None) -> list[str]:
    """What to say of the checkpoints that were chosen, and of the folds without one."""
    name, sentences = f"checkpoint_{chosen.kind}.pth", []
    if asked is None and chosen.kind != "final":
        sentences.append(
            f"{name}, for checkpoint_final.pth is missing, which nnU-Net writes when a training "
            "ends; --checkpoint chooses"
        )
    if chosen.left_out:
        used = ", ".join(path.parent.name for path in chosen.paths)
        ended = ": their training has not ended" if chosen.kind == "final" else ""
        sentences.append(
            f"folds: {used}; without {', '.join(chosen.left_out)}, which lack {name}{ended}"
        )
    return sentences


def _assumptions(plans: dict[str, Any], fold: Fold) -> list[str]:
    assumptions = []
    if fold.trainer != _DEFAULT_TRAINER:
        assumptions.append(
            f"trainer {fold.trainer or 'unknown'}: in all that tensors do not show, its network "
            "is the one that the plans describe"
        )
    manager = plans.get("label_manager", "LabelManager")
    if manager != "LabelManager":
        assumptions.append(f"label manager {manager}: its outputs are those of the default one")
    if fold.mirror_axes is None:
        assumptions.append("no mirroring: the checkpoint does not say along which axes to")
    elif fold.mirror_axes:
        assumptions.append(
            "no mirroring unless asked for with --mirror; nnU-Net averages over mirrored windows "
            "unless given --disable_tta"
        )
    return assumptions
