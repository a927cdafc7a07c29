"""The libraries that register and correct, which are not installed with jaxsal itself."""

from __future__ import annotations

import platform
from importlib import import_module
from importlib.metadata import version
from typing import Any

from jaxsal import __version__
from jaxsal.errors import InputError

_DISTRIBUTIONS = ("itk", "itk-elastix", "SimpleITK", "nibabel", "numpy")


def import_itk() -> Any:
    """ITK with elastix, for registration.

    Raises:
        InputError: it is not installed.
    """
    itk = _import("itk", "itk-elastix")
    if not hasattr(itk, "ElastixRegistrationMethod"):
        raise _missing("itk-elastix")
    return itk


def import_simpleitk() -> Any:
    """SimpleITK, for resampling and N4.

    Raises:
        InputError: it is not installed.
    """
    return _import("SimpleITK", "SimpleITK")


def versions() -> dict[str, str]:
    """Versions of what the results depend on."""
    own = {"jaxsal": __version__, "python": platform.python_version()}
    return own | {name: version(name) for name in _DISTRIBUTIONS}


def _import(module: str, distribution: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        raise _missing(distribution) from error


def _missing(distribution: str) -> InputError:
    return InputError(
        f"preparing scans needs {distribution}, which is not installed: "
        "pip install 'jaxsal[preprocess]'"
    )
