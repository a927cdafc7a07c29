"""What nnU-Net v2 leaves behind after training: plans, dataset description, folds."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxsal.errors import InputError
from jaxsal_converters.state_dict import State, as_arrays, read_checkpoint

CHECKPOINT = "checkpoint_final.pth"
_PLANS, _DATASET = "plans.json", "dataset.json"


@dataclass(frozen=True)
class Fold:
    """One trained network.

    Attributes:
        path: of the checkpoint.
        entries: of the network, by nnU-Net's keys.
        configuration: that it was trained with; None if the checkpoint does not tell.
        trainer: class name of the trainer; None if it does not tell.
        mirror_axes: axes of nnU-Net's arrays along which it may be mirrored at inference.
    """

    path: Path
    entries: State
    configuration: str | None
    trainer: str | None
    mirror_axes: tuple[int, ...]


def training_folder(results: Path, configuration: str | None) -> Path:
    """The folder with plans.json: the one given, or the one inside it of that configuration.

    Raises:
        InputError: there is none, or there are several.
    """
    if not results.is_dir():
        raise InputError(
            f"{results} is not a folder; nnU-Net's results are a folder with {_PLANS}, {_DATASET} "
            "and fold_0, …"
        )
    if (results / _PLANS).is_file():
        return results
    inside = sorted(path.parent for path in results.glob(f"*__*__*/{_PLANS}"))
    wanted = [p for p in inside if configuration in (None, p.name.rpartition("__")[2])]
    if len(wanted) == 1:
        return wanted[0]
    if not inside:
        raise InputError(
            f"{results} holds no {_PLANS}; give the folder that nnU-Net trained into, such as "
            "Dataset001_Name/nnUNetTrainer__nnUNetPlans__3d_fullres"
        )
    raise InputError(
        f"{results} holds the results of {len(inside)} trainings, "
        f"{', '.join(path.name for path in inside)}; give one of these folders"
    )


def read_plans(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """plans.json and dataset.json.

    Raises:
        InputError: one is missing or is no JSON object.
    """
    plans, dataset = (_read_json(folder / name) for name in (_PLANS, _DATASET))
    if not isinstance(plans.get("configurations"), dict):
        raise InputError(
            f"{folder / _PLANS} has no configurations; plans of nnU-Net version 2 are expected"
        )
    return plans, dataset


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise InputError(f"{path} is missing; nnU-Net writes it beside the folds")
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} must hold a JSON object, it holds a {type(content).__name__}")
    return content


def choose_folds(folder: Path, wanted: Sequence[str] | None) -> list[Path]:
    """Checkpoints of the folds.

    Args:
        folder: with fold_0, … or fold_all.
        wanted: numbers, "fold_all" for the network trained on all cases, or None or "all" for all
            that there are.

    Raises:
        InputError: a fold is missing, or fold_all and others are there and it is unclear which.
    """
    present = {
        path.parent.name: path
        for path in sorted(folder.glob(f"fold_*/{CHECKPOINT}"))
        if re.fullmatch(r"fold_(\d+|all)", path.parent.name)
    }
    if not present:
        raise InputError(f"{folder} holds no fold_0/{CHECKPOINT} or the like: nothing to convert")
    if wanted is None or list(wanted) == ["all"]:
        if "fold_all" in present and len(present) > 1:
            raise InputError(
                f"{folder} holds {', '.join(present)}: give --fold fold_all for the network "
                "trained on all cases, or the numbers of the folds for an ensemble"
            )
        return list(present.values())
    names = [name if name.startswith("fold_") else f"fold_{name}" for name in wanted]
    missing = [name for name in names if name not in present]
    if missing or len(set(names)) != len(names):
        raise InputError(
            f"{folder} holds {', '.join(present)} with {CHECKPOINT}; asked for {', '.join(names)}"
        )
    return [present[name] for name in names]


def unfinished_folds(folder: Path) -> list[str]:
    """Folds without the checkpoint that nnU-Net writes when a training ends."""
    folds = (path for path in sorted(folder.glob("fold_*")) if path.is_dir())
    return [path.name for path in folds if not (path / CHECKPOINT).exists()]


def read_fold(path: Path) -> Fold:
    """One fold's checkpoint.

    Raises:
        InputError: it is no checkpoint of nnU-Net's.
    """
    content = read_checkpoint(path)
    weights = content.get("network_weights") if isinstance(content, Mapping) else None
    if not isinstance(weights, Mapping):
        raise InputError(f"{path} is no checkpoint of nnU-Net version 2: it has no network_weights")
    arguments = content.get("init_args")
    arguments = arguments if isinstance(arguments, Mapping) else {}
    try:
        entries = as_arrays(weights)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    return Fold(
        path=path,
        entries=entries,
        configuration=arguments.get("configuration"),
        trainer=content.get("trainer_name"),
        mirror_axes=tuple(content.get("inference_allowed_mirroring_axes") or ()),
    )
