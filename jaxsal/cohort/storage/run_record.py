"""What ``run.json`` of a cohort's folder holds, as far as those use it who look at the folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxsal.errors import InputError
from jaxsal.store.schema import as_type

_IDENTITY = {
    "precision": str,
    "model": dict[str, Any],
    "prediction": dict[str, Any],
    "settings": dict[str, Any],
}
_MODEL = {"channels": list[str], "architecture": dict[str, Any]}
_SETTINGS = {"output": str, "saliency": dict[str, dict[str, Any]]}
_FACTS = {"scans": int, "jaxsal": str, "jax": str, "python": str, "libraries": dict[str, str]}


def checked(run: dict[str, Any], path: Path) -> dict[str, Any]:
    """The content of a file, if all is there that is read of it.

    Args:
        run: the content.
        path: of the file, for the message.

    Raises:
        InputError: something is missing, or is of another type.
    """
    try:
        identity = _having({"identity": dict[str, Any], **_FACTS}, run, "the run")["identity"]
        _having(_IDENTITY, identity, "its identity")
        _having(_MODEL, identity["model"], "its model")
        _having(_SETTINGS, identity["settings"], "its settings'")
        preprocessing = identity["model"].get("preprocessing")
        as_type(dict[str, Any] | None, preprocessing, "its preprocessing")
    except InputError as error:
        raise InputError(
            f"{path} is damaged, or of another version of jaxsal: {error}. Choose another folder, "
            "or begin anew with --overwrite"
        ) from error
    return run


def _having(hints: Mapping[str, Any], table: dict[str, Any], what: str) -> dict[str, Any]:
    for name, hint in hints.items():
        as_type(hint, table.get(name), f"{what} {name}")
    return table
