"""The folder that nnU-Net v2 trains into: where it is, its plans and dataset description."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jaxsal.errors import InputError
from jaxsal.store.files import require_content

_PLANS, _DATASET = "plans.json", "dataset.json"


def training_folder(results: Path, configuration: str | None) -> Path:
    """The folder with plans.json: the one given, or the only one inside it.

    Args:
        results: that folder, its dataset's, or the one of all datasets.
        configuration: of the plans; of several folders the one that is named after it is taken.

    Raises:
        InputError: there is none, or there are several.
    """
    _check_not_inside(results)
    if not results.is_dir():
        raise InputError(
            f"{results} is not a folder; nnU-Net's results are a folder with {_PLANS}, {_DATASET} "
            "and fold_0, …"
        )
    require_content(results / _PLANS)
    if (results / _PLANS).is_file():
        return results
    below = (path for depth in ("*", "*/*") for path in results.glob(f"{depth}/{_PLANS}"))
    inside = sorted(path.parent for path in below)
    if not inside:
        raise InputError(
            f"{results} holds no {_PLANS}; give the folder that nnU-Net trained into, such as "
            "Dataset001_Name/nnUNetTrainer__nnUNetPlans__3d_fullres"
        )
    named = [path for path in inside if path.name.rpartition("__")[2] == configuration]
    wanted = named or inside
    if len(wanted) > 1:
        raise InputError(
            f"{results} holds the results of {len(wanted)} trainings; give the folder of one: "
            f"{', '.join(map(str, wanted))}"
        )
    return wanted[0]


def _check_not_inside(results: Path) -> None:
    """Raises InputError for a fold or a checkpoint, which say too little by themselves."""
    for fold, folder in ((results, results.parent), (results.parent, results.parent.parent)):
        if fold.name.startswith("fold_") and (folder / _PLANS).is_file():
            raise InputError(
                f"{results} is a part of what nnU-Net trained: give {folder} --fold {fold.name}"
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
    require_content(path)
    if not path.is_file():
        raise InputError(f"{path} is missing; nnU-Net writes it beside the folds")
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} must hold a JSON object, it holds a {type(content).__name__}")
    return content
