"""The folder that nnU-Net v2 trains into: plans, dataset, folds and their checkpoints."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import Any, NamedTuple

from jaxsal.errors import InputError, require_one_of
from jaxsal.store.files import read_object, require_content
from jaxsal_converters.checkpoint_file import read_checkpoint
from jaxsal_converters.nnunet_keys import KEY_PATTERN
from jaxsal_converters.state_dict import State, as_arrays

PLANS, DATASET = "plans.json", "dataset.json"


def training_folder(
    results: Path, configuration: str | None = None, trainer: str | None = None
) -> Path:
    """The folder with plans.json: the one given, or the only one inside it.

    Args:
        results: that folder, its dataset's, or the one of all datasets.
        configuration: of the plans; of several folders the one that is named after it is taken.
        trainer: class name, likewise; a single folder is not asked for it.

    Raises:
        InputError: there is none, or there are several.
    """
    check_not_inside(results)
    if not results.is_dir():
        raise InputError(
            f"{results} is not a folder; nnU-Net's results are a folder with {PLANS}, {DATASET} "
            "and fold_0, …"
        )
    require_content(results / PLANS)
    if (results / PLANS).is_file():
        return results
    below = (path for depth in ("*", "*/*") for path in results.glob(f"{depth}/{PLANS}"))
    inside = sorted(path.parent for path in below)
    if not inside:
        raise InputError(
            f"{results} holds no {PLANS}; give the folder that nnU-Net trained into, such as "
            "Dataset001_Name/nnUNetTrainer__nnUNetPlans__3d_fullres"
        )
    wanted = [path for path in inside if _is_named(path, configuration, trainer)]
    if len(inside) == 1 and trainer is None:
        return inside[0]
    if len(wanted) != 1:
        asked = " ".join(filter(None, [trainer and f"--trainer {trainer}", _asked(configuration)]))
        none = f"{results} holds no training by {asked}"
        several = f"{results} holds the results of {len(wanted)} trainings"
        listed = "\n  ".join(str(path) for path in wanted or inside)
        raise InputError(
            f"{several if wanted else none}; give --trainer and --configuration of one, by the "
            f"names TRAINER__PLANS__CONFIGURATION of these folders, or its folder:\n  {listed}"
        )
    return wanted[0]


def _asked(configuration: str | None) -> str:
    return f"--configuration {configuration}" if configuration else ""


def _is_named(folder: Path, configuration: str | None, trainer: str | None) -> bool:
    """Whether a folder, TRAINER__PLANS__CONFIGURATION, is of these; None: of any."""
    parts = folder.name.split("__")
    return configuration in (None, parts[-1]) and trainer in (None, parts[0])


def check_not_inside(results: Path) -> None:
    """Raises InputError for a fold or a checkpoint, which say too little by themselves."""
    for fold, folder in ((results, results.parent), (results.parent, results.parent.parent)):
        if fold.name.startswith("fold_") and (folder / PLANS).is_file():
            raise InputError(
                f"{results} is a part of what nnU-Net trained: give {folder} --fold {fold.name}"
            )


def read_plans(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """plans.json and dataset.json.

    Raises:
        InputError: one is missing or is no JSON object.
    """
    plans, dataset = (_read_json(folder / name) for name in (PLANS, DATASET))
    if not isinstance(plans.get("configurations"), dict):
        raise InputError(
            f"{folder / PLANS} has no configurations; plans of nnU-Net version 2 are expected"
        )
    return plans, dataset


def _read_json(path: Path) -> dict[str, Any]:
    require_content(path)
    if not path.is_file():
        raise InputError(f"{path} is missing; nnU-Net writes it beside the folds")
    return read_object(path)


CHECKPOINTS = ("final", "best", "latest")
"""What a fold can hold, as ``checkpoint_<kind>.pth``; of several the first is taken.

nnU-Net writes "final" when a training ends and removes "latest" then; "best" is the one of the best
validation on patches.
"""


class Checkpoints(NamedTuple):
    """One file per fold, all of one kind.

    Attributes:
        kind: one of `CHECKPOINTS`.
        paths: the files.
        left_out: names of folds that are not used because they hold no file of the kind.
    """

    kind: str
    paths: list[Path]
    left_out: list[str]


@dataclass(frozen=True)
class Fold:
    """One trained network.

    Attributes:
        path: of the checkpoint.
        entries: of the network, by nnU-Net's keys.
        configuration: that it was trained with; None if the checkpoint does not say.
        trainer: class name of the trainer; None if it does not say.
        mirror_axes: axes of nnU-Net's arrays along which it may be mirrored at inference; None if
            it does not say.
    """

    path: Path
    entries: State
    configuration: str | None
    trainer: str | None
    mirror_axes: tuple[int, ...] | None


def choose_checkpoints(
    folder: Path, wanted: Sequence[str] | None = None, kind: str | None = None
) -> Checkpoints:
    """The checkpoints to convert.

    Args:
        folder: with fold_0, … or fold_all.
        wanted: numbers of folds, "fold_all" for the network trained on all cases, or None or "all"
            for all that there are.
        kind: of the files; by default the first of `CHECKPOINTS` that all wanted folds hold, or,
            where all folds are wanted, that one of them holds.

    Raises:
        InputError: there are none, or it is unclear which are wanted.
    """
    if kind is not None:
        require_one_of("checkpoint", kind, CHECKPOINTS)
    every = wanted is None or list(wanted) == ["all"]
    names = [n if n.startswith("fold_") else f"fold_{n}" for n in (() if every else wanted or ())]
    holders = {k: _holders(folder, k) for k in CHECKPOINTS}
    for tried in CHECKPOINTS if kind is None else (kind,):
        holding = holders[tried]
        if every and "fold_all" in holding and len(holding) > 1:
            raise InputError(
                f"{folder} holds {', '.join(holding)}: give --fold fold_all for the network "
                "trained on all cases, or the numbers of the folds for an ensemble"
            )
        if every and holding:
            left_out = [name for name in _folds(folder) if name not in holding]
            return Checkpoints(tried, list(holding.values()), left_out)
        if names and len(set(names)) == len(names) and set(names) <= set(holding):
            return Checkpoints(tried, [holding[name] for name in names], [])
    raise InputError(_nothing(folder, holders, names, kind))


def _folds(folder: Path) -> list[str]:
    found = (path.name for path in sorted(folder.glob("fold_*")) if path.is_dir())
    return [name for name in found if re.fullmatch(r"fold_(\d+|all)", name)]


def _holders(folder: Path, kind: str) -> dict[str, Path]:
    """The folds that hold a checkpoint of this kind, with its path."""
    paths = {name: folder / name / f"checkpoint_{kind}.pth" for name in _folds(folder)}
    return {name: path for name, path in paths.items() if os.path.lexists(path)}


def _nothing(
    folder: Path, holders: Mapping[str, Mapping[str, Path]], names: list[str], kind: str | None
) -> str:
    """The message where no checkpoints fit."""
    held = {n: [k for k in CHECKPOINTS if n in holders[k]] for n in _folds(folder)}
    shown = ", ".join(f"{name} ({', '.join(kinds)})" for name, kinds in held.items() if kinds)
    if not shown:
        return f"{folder} holds no fold_0/checkpoint_final.pth or the like: nothing to convert"
    asked = ", ".join([*names, *([f"checkpoint_{kind}.pth"] if kind else [])])
    same = "" if kind else "; all folds must hold a checkpoint of the same name"
    return f"{folder} holds the checkpoints {shown}; asked for {asked}{same}"


def read_fold(path: Path) -> Fold:
    """One fold's checkpoint, or a state dict of its network alone in the place of it.

    Raises:
        InputError: it is neither.
    """
    content = read_checkpoint(path)
    content = content if isinstance(content, Mapping) else {}
    # the entries of a network rather than a checkpoint around them
    is_bare = any(re.match(rf"(?:[^.]+\.)*?{KEY_PATTERN}", str(key)) for key in content)
    weights = content if is_bare else content.get("network_weights")
    if not isinstance(weights, Mapping):
        raise InputError(f"{path} is no checkpoint of nnU-Net version 2: it has no network_weights")
    try:
        entries = as_arrays(weights)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    arguments = content.get("init_args")
    said = arguments if isinstance(arguments, Mapping) else {}
    axes = content.get("inference_allowed_mirroring_axes")
    return Fold(
        path=path,
        entries=entries,
        configuration=_text(said.get("configuration")),
        trainer=_text(content.get("trainer_name")),
        mirror_axes=None if weights is content else _axes(axes),
    )


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _axes(value: object) -> tuple[int, ...] | None:
    """Axes of nnU-Net's arrays; none where there is no entry, as nnU-Net itself has it."""
    axes = () if value is None else value
    if not isinstance(axes, list | tuple):
        return None
    known = all(isinstance(axis, Integral) and axis in (0, 1, 2) for axis in axes)
    return tuple(int(axis) for axis in axes) if known else None
