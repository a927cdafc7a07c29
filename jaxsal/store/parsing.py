"""From text to values: JSON and TOML, which may come from anybody.

Every document is parsed here, so that one that nests too deeply for Python is a mistake like any
other.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from typing import Any

_TOO_DEEP = "it nests too deeply"


def parsed_json(content: bytes | str) -> Any:
    """The values in a JSON document.

    Raises:
        ValueError: it is none, or nests more deeply than Python can read.
    """
    return _shallow(json.loads, content)


def parsed_toml(content: str) -> dict[str, Any]:
    """The values in a TOML document.

    Raises:
        ValueError: it is none, or nests more deeply than Python can read.
    """
    found: dict[str, Any] = _shallow(tomllib.loads, content)
    return found


def _shallow(parse: Callable[[Any], Any], content: bytes | str) -> Any:
    try:
        return parse(content)
    except RecursionError as error:
        raise ValueError(_TOO_DEEP) from error
