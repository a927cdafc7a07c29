"""Reading the JSON file that ``--config`` names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jaxsal.errors import InputError
from jaxsal.files import require_content


def read_config_file(path: str | Path) -> dict[str, Any]:
    """A network's constructor arguments by name.

    Raises:
        InputError: the file is missing or holds no JSON object.
    """
    path = Path(path)
    require_content(path)
    if not path.is_file():
        raise InputError(
            f"{path} is not a file; a JSON file with constructor arguments is expected"
        )
    try:
        arguments = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(arguments, dict):
        raise InputError(
            f'{path} must hold a JSON object of constructor arguments, such as {{"strides": '
            f"[2, 2, 2, 2]}}; it holds a {type(arguments).__name__}"
        )
    return arguments
