"""Libraries that only some commands need, which come with extras of the package."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from jaxsal.errors import InputError


def import_extra(module: str, extra: str, purpose: str, distribution: str = "") -> Any:
    """Imports a module of a library.

    Args:
        module: its full name.
        extra: of jaxsal, that installs the library.
        purpose: what needs it, for the message.
        distribution: what the library is called; default: as the module.

    Raises:
        InputError: the library is not installed.
        ImportError: it is, but is broken.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise  # what the library itself lacks
        raise InputError(
            f"{purpose} needs {distribution or module}, which is not installed: "
            f"`pip install 'jaxsal[{extra}]'`"
        ) from error
