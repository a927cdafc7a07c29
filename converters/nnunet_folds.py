"""The folds of a training of nnU-Net v2's, and the checkpoints that they hold."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import NamedTuple

from jaxsal.errors import InputError
from jaxsal_converters.checkpoint_file import read_checkpoint
from jaxsal_converters.nnunet_keys import KEY_PATTERN
from jaxsal_converters.state_dict import State, as_arrays

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
    if kind not in (None, *CHECKPOINTS):
        raise InputError(f"checkpoint must be one of {', '.join(CHECKPOINTS)}; got {kind!r}")
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
    weights = content if _is_bare(content) else content.get("network_weights")
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


def _is_bare(content: Mapping[str, object]) -> bool:
    """Whether these are the entries of a network rather than a checkpoint around them."""
    return any(re.match(rf"(?:[^.]+\.)*?{KEY_PATTERN}", str(key)) for key in content)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _axes(value: object) -> tuple[int, ...] | None:
    """Axes of nnU-Net's arrays; none where there is no entry, as nnU-Net itself has it."""
    axes = () if value is None else value
    if not isinstance(axes, list | tuple):
        return None
    known = all(isinstance(axis, Integral) and axis in (0, 1, 2) for axis in axes)
    return tuple(int(axis) for axis in axes) if known else None
