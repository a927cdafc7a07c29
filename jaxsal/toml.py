"""The tables of a TOML file; `jaxsal.store.schema` makes settings of them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from jaxsal.errors import InputError
from jaxsal.store.files import require_content
from jaxsal.store.parsing import parsed_toml
from jaxsal.store.schema import check_known


def read_toml(path: Path) -> dict[str, Any]:
    """The content of a TOML file.

    Raises:
        InputError: the file cannot be read.
    """
    require_content(path)
    try:
        return parsed_toml(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        raise InputError(f"{path} cannot be read: {reason}") from error
    except ValueError as error:
        raise InputError(f"{path} is no valid TOML: {error}") from error


def read_tables(path: Path, known: Iterable[str]) -> dict[str, dict[str, Any]]:
    """The tables of a TOML file, all of those that are known.

    Raises:
        InputError: the file cannot be read, or holds something else.
    """
    content = read_toml(path)
    check_known(str(path), content, known, "section")
    for name, table in content.items():
        if not isinstance(table, dict):
            raise InputError(f"{path}: {name} must be a section, [{name}]; got {table!r}")
    return {name: content.get(name, {}) for name in known}
