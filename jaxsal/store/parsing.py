"""From text to values: JSON and TOML, which may come from anybody.

Every document is parsed here, so that one that nests too deeply for Python is a mistake like any
other.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from functools import partial
from typing import Any

_MOST_DIGITS = 20  # with a sign
_TOO_DEEP = "it nests too deeply"


def parsed_json(content: bytes | str) -> Any:
    """The values in a JSON document.

    Raises:
        ValueError: it is none, nests more deeply than Python can read, or has half a character or a
            whole number of more than 64 bits, which could be neither written nor computed with.
    """
    found = _shallow(partial(json.loads, parse_int=_whole), content)
    text = content if isinstance(content, str) else content.decode("latin-1")
    if "\\ud" in text.lower():  # those of file names that are no UTF-8 pass
        json.dumps(found, ensure_ascii=False).encode("utf-8", "surrogateescape")
    return found


def _whole(digits: str) -> int:
    if len(digits) > _MOST_DIGITS or not -(2**63) <= int(digits) < 2**64:
        raise ValueError(f"it has a whole number of {len(digits)} digits, too large to be one")
    return int(digits)


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
